"""Bridges to other libraries, each imported when it is used: estimators for scikit-learn, and ONNX files."""
