public import Checkpoints
import LinearAlgebra
public import Tensors

/// An adapter laid out in a dialect: every tensor of the output with where its bytes come from.
public struct AdapterPlan: Sendable {
  /// Where a planned tensor's bytes come from.
  public enum Content: Sendable {
    /// The bytes of a stored tensor, as they are.
    case stored(StoredTensor)
    /// Bytes made when they are wanted: the planned dtype and shape, row-major, little-endian.
    case made(@Sendable () throws(SurgeryError) -> [UInt8])
    /// Whole numbers with a step a row, made when they are wanted, for a tensor that is planned so; at most as many rows as
    /// planned.
    case quantised(@Sendable () throws(SurgeryError) -> QuantisedMatrix)

    /// The bytes.
    ///
    /// - Returns: All bytes of the tensor.
    /// - Throws: What reading throws.
    public func bytes() throws(SurgeryError) -> [UInt8] {
      switch self {
      case .stored(let tensor): try tensor.bytes()
      case .made(let make): try make()
      case .quantised(let make): try make().bytes
      }
    }
  }

  /// The files of the output.
  public var plan: CheckpointPlan
  /// For each file of the plan, the contents of its tensors.
  public var contents: [[Content]]
  /// What the user should know: what was folded, renamed or left out.
  public var notes: [String]

  /// Creates a plan.
  public init(plan: CheckpointPlan, contents: [[Content]], notes: [String] = []) {
    self.plan = plan
    self.contents = contents
    self.notes = notes
  }

  /// Plans an adapter of one file of tensors: the path itself, or a file in the folder that the path names.
  ///
  /// - Parameters:
  ///   - tensors: What the file holds.
  ///   - path: Where the output goes; a name without a known extension is a folder.
  ///   - name: What the dialect calls the file in a folder, without its extension.
  ///   - options: How it is written.
  ///   - metadata: The metadata of the file.
  ///   - extras: What lies beside the file in a folder.
  ///   - notes: What the user should know.
  init(
    _ tensors: AdapterFileBuilder, to path: String, inFolderAs name: String,
    _ options: AdapterWritingOptions, metadata: [String: String] = [:],
    extras: [CheckpointPlan.Extra] = [], notes: [String] = []
  ) {
    let isFolder = FileFormat(extensionOf: path) == nil
    let file = TensorFilePlan(
      relativePath: isFolder ? "\(name).\(options.format.rawValue)" : Places.name(in: path).whole,
      format: options.format, tensors: tensors.infos, metadata: metadata)
    self.init(
      plan: CheckpointPlan(
        path: path, kind: isFolder ? .folder : .file, files: [file],
        extras: isFolder ? extras : []),
      contents: [tensors.contents], notes: notes)
  }
}

/// Collects the tensors of one output file of an adapter.
struct AdapterFileBuilder {
  private(set) var infos: [TensorInfo] = []
  private(set) var contents: [AdapterPlan.Content] = []
  /// The dtype of what is written; `nil` keeps the stored one.
  let dtype: DType?

  init(dtype: DType?) { self.dtype = dtype }

  /// Adds a view of a stored tensor, multiplied where `scale` is not 1, under a name and a shape.
  mutating func add(
    _ name: String, _ factor: Factor, shape: [Int]? = nil, scale: Double = 1
  ) throws(SurgeryError) {
    let shape = shape ?? [factor.rows, factor.columns]
    let dtype = storage(ofRows: shape.last ?? 1) ?? factor.dtype
    let info = try Self.info(name, dtype, shape)
    infos.append(info)
    if scale == 1, dtype == factor.dtype {
      contents.append(
        factor.isPlain
          ? .stored(factor.tensor.renamed(info.name))
          : .made { () throws(SurgeryError) in try factor.bytes() })
      return
    }
    contents.append(
      .made { () throws(SurgeryError) in
        var matrix = try factor.matrix(of: Double.self)
        matrix.scale(by: scale)
        return Self.encoded(matrix.elements, as: dtype)
      })
  }

  /// The dtype asked for, where rows of this length can have it: what makes no whole blocks becomes float16, as in llama.cpp's
  /// converter (llama.cpp:convert_hf_to_gguf.py, `prepare_tensors`).
  private func storage(ofRows columns: Int) -> DType? {
    guard case .blockQuantised(let type)? = dtype, columns % type.elementsPerBlock != 0 else {
      return dtype
    }
    return .f16
  }

  private static func encoded(_ values: [Double], as dtype: DType) -> [UInt8] {
    guard case .blockQuantised = dtype else { return values.narrowed(to: dtype) }
    return Q8Blocks.encoded(values)
  }

  /// Adds a view with rows or columns of zeros behind its own.
  mutating func addPadded(
    _ name: String, _ factor: Factor, rows: Int, columns: Int, scale: Double
  ) throws(SurgeryError) {
    let dtype = dtype ?? factor.dtype
    infos.append(try Self.info(name, dtype, [rows, columns]))
    contents.append(
      .made { () throws(SurgeryError) in
        var matrix = try factor.matrix(of: Double.self)
        matrix.scale(by: scale)
        var padded = Matrix<Double>(rows: rows, columns: columns)
        for row in 0..<matrix.rows {
          for column in 0..<matrix.columns { padded[row, column] = matrix[row, column] }
        }
        return padded.elements.narrowed(to: dtype)
      })
  }

  /// Adds a stored tensor as it is, or in the wanted dtype.
  mutating func add(_ name: String, full tensor: StoredTensor) throws(SurgeryError) {
    guard let dtype, dtype != tensor.info.dtype, tensor.info.dtype.isFloatingPoint else {
      infos.append(try Self.info(name, tensor.info.dtype, tensor.info.shape.dimensions))
      contents.append(.stored(tensor))
      return
    }
    try add(name, Factor(tensor), shape: tensor.info.shape.dimensions)
  }

  /// Adds numbers.
  mutating func add(
    _ name: String, values: [Double], shape: [Int], dtype: DType
  ) throws(SurgeryError) {
    infos.append(try Self.info(name, dtype, shape))
    let bytes = values.narrowed(to: dtype)
    contents.append(.made { bytes })
  }

  private static func info(
    _ name: String, _ dtype: DType, _ shape: [Int]
  ) throws(SurgeryError) -> TensorInfo {
    guard let shape = Shape(shape),
      let info = TensorInfo(name: TensorName(name), dtype: dtype, shape: shape)
    else {
      throw SurgeryError(
        .bug, "adapter.plan", "a planned tensor has no valid shape", tensor: name,
        found: "\(shape)")
    }
    return info
  }
}
