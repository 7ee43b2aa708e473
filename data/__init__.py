"""The dataset and what builds and checks it."""
