"""ONNX files: `allgrad export RUN --onnx model.onnx`.

`export.py` puts a file together and checks it, `graph.py` is the file while it is made, `converters.py` says how a layer
registers what it becomes, `layers.py`, `recurrent.py` and `models.py` do that for allgrad's own, and `preprocessing.py` for the
inputs and outputs. The package onnx is imported by the functions that need it.
"""
