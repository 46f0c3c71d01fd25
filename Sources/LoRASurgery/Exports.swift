// One import gives a program the types that requests, reports and errors are made of.
@_exported public import Adapters
@_exported public import Checkpoints
@_exported public import LinearAlgebra
@_exported public import Tensors
