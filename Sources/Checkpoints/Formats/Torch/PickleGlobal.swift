import Tensors

/// The classes and functions that a state dict names, and the only ones that a pickle may name here.
///
/// A name stays a name: what the interpreter does for it is written in this program, nothing is looked up or called.
enum PickleGlobal {
  case orderedDict
  case size
  case rebuildTensorV2
  case rebuildTensorV3
  case rebuildParameter
  /// A storage class.
  case storage(TorchType)
  /// A dtype.
  case dtype(TorchType)

  /// The allowed global of this name, if it is one.
  init?(module: String, name: String) {
    switch (module, name) {
    case ("collections", "OrderedDict"): self = .orderedDict
    case ("torch", "Size"): self = .size
    case ("torch._utils", "_rebuild_tensor_v2"): self = .rebuildTensorV2
    case ("torch._utils", "_rebuild_tensor_v3"): self = .rebuildTensorV3
    case ("torch._utils", "_rebuild_parameter"): self = .rebuildParameter
    case ("torch.storage", "UntypedStorage"): self = .storage(.untyped)
    case ("torch", _), ("torch.cuda", _):
      if let type = TorchType(storage: name) {
        self = .storage(type)
      } else if module == "torch", let type = TorchType(dtype: name) {
        self = .dtype(type)
      } else {
        return nil
      }
    default: return nil
    }
  }

  /// The name for messages.
  var name: String {
    switch self {
    case .orderedDict: "collections.OrderedDict"
    case .size: "torch.Size"
    case .rebuildTensorV2: "torch._utils._rebuild_tensor_v2"
    case .rebuildTensorV3: "torch._utils._rebuild_tensor_v3"
    case .rebuildParameter: "torch._utils._rebuild_parameter"
    case .storage(let type): "a storage class of \(type.name)"
    case .dtype(let type): "torch.\(type.name)"
    }
  }
}

/// An element type of torch, under the name of its dtype.
enum TorchType: String {
  case untyped
  case float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8, bool
  case uint16, uint32, uint64, complex64, complex128, complex32
  case float8_e4m3fn, float8_e5m2, float8_e8m0fnu, float8_e4m3fnuz, float8_e5m2fnuz
  case qint8, quint8, qint32, quint4x2, quint2x4

  /// The type of a storage class such as `FloatStorage`.
  init?(storage name: String) {
    switch name {
    case "UntypedStorage": self = .untyped
    case "DoubleStorage": self = .float64
    case "FloatStorage": self = .float32
    case "HalfStorage": self = .float16
    case "BFloat16Storage": self = .bfloat16
    case "LongStorage": self = .int64
    case "IntStorage": self = .int32
    case "ShortStorage": self = .int16
    case "CharStorage": self = .int8
    case "ByteStorage": self = .uint8
    case "BoolStorage": self = .bool
    case "ComplexFloatStorage": self = .complex64
    case "ComplexDoubleStorage": self = .complex128
    case "QInt8Storage": self = .qint8
    case "QUInt8Storage": self = .quint8
    case "QInt32Storage": self = .qint32
    case "QUInt4x2Storage": self = .quint4x2
    case "QUInt2x4Storage": self = .quint2x4
    default: return nil
    }
  }

  /// The type of a dtype such as `torch.float32`.
  init?(dtype name: String) {
    guard let type = TorchType(rawValue: name), type != .untyped else { return nil }
    self = type
  }

  var name: String { rawValue }

  /// The type of tensors here, or `nil` where there is none.
  var dtype: DType? {
    switch self {
    case .float64: .f64
    case .float32: .f32
    case .float16: .f16
    case .bfloat16: .bf16
    case .int64: .i64
    case .int32: .i32
    case .int16: .i16
    case .int8: .i8
    case .uint8: .u8
    case .bool: .bool
    case .uint16: .u16
    case .uint32: .u32
    case .uint64: .u64
    case .complex64: .c64
    case .float8_e4m3fn: .f8e4m3
    case .float8_e5m2: .f8e5m2
    case .float8_e8m0fnu: .f8e8m0
    case .float8_e4m3fnuz: .f8e4m3fnuz
    case .float8_e5m2fnuz: .f8e5m2fnuz
    case .untyped, .complex128, .complex32, .qint8, .quint8, .qint32, .quint4x2, .quint2x4: nil
    }
  }

  /// Bytes of what a storage of this type counts; `nil` where it is not known.
  var storageUnit: Int? { self == .untyped ? 1 : dtype?.bytesPerElement }
}
