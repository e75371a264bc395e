"""Fine-tuning: so far the vocabulary, the seam to training engines, and group-relative advantages."""
