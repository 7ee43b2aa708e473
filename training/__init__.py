"""Everything that needs torch: making the embedded base model, fine-tuning, and export."""
