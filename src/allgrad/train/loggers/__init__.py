"""What a run reports: a JSON lines file, a progress line, TensorBoard, a summary."""
