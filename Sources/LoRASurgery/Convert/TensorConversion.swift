import Checkpoints
import Tensors

/// What becomes of one tensor of a checkpoint that is written in another form.
struct TensorConversion {
  /// What is read: the tensor, its transpose, or its stored form.
  private(set) var source: StoredTensor
  /// What is written; `nil` where the tensor is left out.
  private(set) var info: TensorInfo?
  private(set) var report: TensorReport
  private var isTransposed = false

  /// Plans every tensor of a checkpoint.
  ///
  /// - Throws: `convert.name` where two tensors get the same name, `convert.quantised` where reading would silently widen,
  ///   `convert.dtype`, `convert.transpose`, `usage.regex`.
  static func all(
    of checkpoint: Checkpoint, for request: ConvertRequest, into format: FileFormat
  ) throws(SurgeryError) -> [Self] {
    let matcher = try request.selection.matcher()
    let rename = try request.renamings.map { (renaming) throws(SurgeryError) in
      try renaming.compiled()
    }
    let transposed = try request.transposed.map(NamePattern.init)
    let keepsEncoding = checkpoint.files.first?.file.format == format
    var origins: [TensorName: TensorName] = [:]
    let conversions = try checkpoint.tensors.map { (tensor) throws(SurgeryError) in
      guard matcher.selects(tensor.name) else { return Self(leavingOut: tensor) }
      let name = TensorName(rename.reduce(tensor.name.text) { $1($0) })
      if let other = origins.updateValue(tensor.name, forKey: name) {
        throw SurgeryError(
          .data, "convert.name", "two tensors would get the same name", file: request.input,
          tensor: name.text, found: "\(other) and \(tensor.name)", hint: "change --rename")
      }
      do throws(SurgeryError) {
        return try Self(
          tensor, named: name, dtype: request.dtype, keepsEncoding: keepsEncoding,
          transposing: transposed.contains { $0.matches(tensor.name.text) })
      } catch {
        throw error.inFile(request.input).inTensor(tensor.name)
      }
    }
    guard transposed.isEmpty || conversions.contains(where: \.isTransposed) else {
      throw SurgeryError(
        .usage, "convert.transpose", "no tensor of two dimensions matches", file: request.input,
        found: request.transposed.joined(separator: ", "), hint: "change --transpose")
    }
    return conversions
  }

  private init(leavingOut tensor: StoredTensor) {
    source = tensor
    report = .leftOut(tensor.name, shape: tensor.info.shape)
  }

  private init(
    _ tensor: StoredTensor, named name: TensorName, dtype: DType?, keepsEncoding: Bool,
    transposing: Bool
  ) throws(SurgeryError) {
    var source = tensor
    var changes: [String] = []
    if transposing, tensor.info.shape.rank == 2 {
      guard let turned = source.transposed else {
        throw SurgeryError(
          .unsupported, "convert.transpose", "elements of this dtype cannot be transposed",
          found: tensor.info.dtype.name, hint: "--exclude leaves the tensor out")
      }
      source = turned
      changes.append("transposed")
      isTransposed = true
    }
    if dtype == nil, tensor.storedDType != tensor.info.dtype {
      guard keepsEncoding, !isTransposed else {
        throw SurgeryError(
          .unsupported, "convert.quantised",
          "the tensor is quantised, and its values would take another dtype",
          found: tensor.storedDType.name, hint: "--dtype f32 writes its values")
      }
      source = tensor.undecoded
    }
    let stored = Self.storageDType(asked: dtype, stored: source.info.dtype)
    guard let info = TensorInfo(name: name, dtype: stored, shape: source.info.shape) else {
      throw SurgeryError(
        .unsupported, "convert.dtype", "the tensor cannot be stored in this dtype",
        found: stored.name)
    }
    if stored != tensor.storedDType { changes.append("\(tensor.storedDType) to \(stored)") }
    self.source = source
    self.info = info
    report = TensorReport(
      tensor.name, changes.isEmpty ? .copied : .converted, shape: tensor.info.shape,
      reason: changes.isEmpty ? nil : changes.joined(separator: ", "))
  }

  private static func storageDType(asked: DType?, stored: DType) -> DType {
    guard let asked, stored.isNumeric, asked.isNumeric,
      asked.isFloatingPoint == stored.isFloatingPoint
    else { return stored }
    return asked
  }
}
