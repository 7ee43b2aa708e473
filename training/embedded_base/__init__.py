"""The small base model that the project carries: its corpus, tokenizer, pretraining, and the weights themselves."""
