public import Tensors

extension NpyHeader {
  /// NumPy aligns the first element so, to let the file be mapped.
  private static let alignment = 64

  /// The header of a row-major array, as NumPy writes it.
  ///
  /// - Throws: `npy.dtype` where npy has no such type, `npy.header-too-large` where NumPy would not read so many dimensions.
  static func bytes(
    for info: TensorInfo, isRecorded: Bool
  ) throws(SurgeryError) -> [UInt8] {
    guard let descr = NumPyDType.descr(of: info.dtype, isRecorded: isRecorded) else {
      throw SurgeryError(
        .unsupported, "npy.dtype",
        isRecorded ? "NumPy has no such dtype" : "an npy file cannot say what dtype this is",
        tensor: info.name.text, found: info.dtype.name,
        hint: isRecorded ? "--dtype f32 widens it" : "--dtype f32 widens it; .npz records it")
    }
    let dimensions = info.shape.dimensions.map(String.init).joined(separator: ", ")
    let comma = info.shape.rank == 1 ? "," : ""
    var text =
      "{'descr': '\(descr)', 'fortran_order': False, 'shape': (\(dimensions)\(comma)), }"
    guard text.utf8.count < maximumLength - alignment else {
      throw SurgeryError(
        .unsupported, "npy.header-too-large", "NumPy reads no header with so many dimensions",
        tensor: info.name.text, found: "\(info.shape.rank) dimensions")
    }
    let start = magic.count + 4
    let size = (start + text.utf8.count + alignment) / alignment * alignment
    text += String(repeating: " ", count: size - start - text.utf8.count - 1) + "\n"
    var bytes = magic + [1, 0]
    bytes.appendZip(UInt64(text.utf8.count), count: 2)
    return bytes + Array(text.utf8)
  }
}

/// Writes one tensor as an npy file of version 1.0, row-major and little-endian.
///
/// The file carries neither the tensor's name nor metadata; its name is the file's. BF16 is written as ml_dtypes has NumPy
/// write it (`V2`) and read back as such; other types that NumPy lacks are refused.
struct NpyWriter: TensorFileWriter {
  private let file: OutputFile
  private let dataOffset: UInt64

  let isSequential = false

  init(
    _ plan: TensorFilePlan, _ makeFile: (UInt64?) throws(SurgeryError) -> OutputFile
  ) throws(SurgeryError) {
    guard let info = plan.tensors.first, plan.tensors.count == 1 else {
      throw SurgeryError(
        .unsupported, "npy.count", "an npy file holds one tensor", file: plan.relativePath,
        expected: "1 tensor", found: "\(plan.tensors.count)",
        hint: "write an .npz, or a folder of .npy files")
    }
    let header = try NpyHeader.bytes(for: info, isRecorded: false)
    dataOffset = UInt64(header.count)
    file = try makeFile(dataOffset + UInt64(info.byteCount))
    try file.write(header, at: 0)
  }

  func plainOffset(of tensor: Int) -> UInt64? { dataOffset }

  func write(
    _ bytes: RawSpan, tensor: Int, at offset: Int, through stage: WriteStage
  ) throws(SurgeryError) {
    try stage.write(bytes, to: file, at: dataOffset + UInt64(offset))
  }

  func finish() {}
}

extension TensorFilePlan {
  /// Plans a folder of npy files, one for each tensor: its path is the tensor's name and `.npy`.
  ///
  /// - Parameter tensors: The tensors.
  /// - Returns: One plan for each tensor, in order.
  /// - Throws: `npy.name` where a name is no safe path, or is a folder of another's.
  public static func npyFolder(
    _ tensors: [TensorInfo]
  ) throws(SurgeryError) -> [TensorFilePlan] {
    var plans: [TensorFilePlan] = []
    let names = Set(tensors.map(\.name))
    for info in tensors {
      let path = info.name.text + ".npy"
      if let problem = ZipName.problem(info.name.text) ?? folderProblem(info.name.text, names) {
        throw SurgeryError(
          .unsupported, "npy.name", "the tensor's name cannot be a file's name: \(problem)",
          tensor: info.name.text, hint: "--rename gives it another")
      }
      plans.append(
        TensorFilePlan(relativePath: path, format: .npy, tensors: [info], metadata: [:]))
    }
    return plans
  }

  /// A folder cannot have the name of a file beside it.
  private static func folderProblem(_ name: String, _ names: Set<TensorName>) -> String? {
    var folder = ""
    for component in name.split(separator: "/").dropLast() {
      folder += (folder.isEmpty ? "" : "/") + component
      if folder.hasSuffix(".npy"), names.contains(TensorName(String(folder.dropLast(4)))) {
        return "its folder has the name of another tensor's file"
      }
    }
    return nil
  }
}
