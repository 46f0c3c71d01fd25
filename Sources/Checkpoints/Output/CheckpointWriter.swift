import SystemPackage
public import Tensors

/// Everything that an output will hold, known before the first byte is written.
public struct CheckpointPlan: Sendable {
  /// A small file written beside the tensors.
  public struct Extra: Sendable {
    /// Where a small file's bytes come from.
    public enum Content: Sendable {
      /// Copied from this path.
      case copy(of: String)
      /// Written as given.
      case bytes([UInt8])
      /// The same file under another name where the file system allows it, else a copy; the file must not change later.
      case link(to: InputFile)
    }
    /// Path inside the output folder.
    public var relativePath: String
    /// The bytes.
    public var content: Content

    /// Creates a plan of a small file.
    public init(relativePath: String, content: Content) {
      self.relativePath = relativePath
      self.content = content
    }
  }

  /// Where the output goes.
  public var path: String
  /// File or folder.
  public var kind: OutputTransaction.Kind
  /// The files of tensors.
  public var files: [TensorFilePlan]
  /// The other files.
  public var extras: [Extra]

  /// Creates a plan.
  public init(
    path: String, kind: OutputTransaction.Kind, files: [TensorFilePlan], extras: [Extra] = []
  ) {
    self.path = path
    self.kind = kind
    self.files = files
    self.extras = extras
  }

  /// Bytes of the planned tensors' data.
  public var byteCount: Int { files.reduce(0) { $0 + $1.byteCount } }
}

/// The place of one tensor in a plan: which file, and which tensor of it.
public struct PlannedTensor: Sendable, Hashable {
  /// Position in the plan's `files`.
  public var file: Int
  /// Position in that file's `tensors`.
  public var tensor: Int

  /// Names a tensor of a plan.
  public init(file: Int, tensor: Int) {
    self.file = file
    self.tensor = tensor
  }
}

/// Writes a planned output; it appears at its path when `commit` succeeds, and not before.
public final class CheckpointWriter: Sendable {
  private let plan: CheckpointPlan
  private let transaction: OutputTransaction
  private let interruption: Interruption
  private let files: [OutputFile]
  private let writers: [any TensorFileWriter]

  /// Claims the destination, reserves its space and writes the headers.
  ///
  /// - Parameters:
  ///   - plan: What will be written.
  ///   - replacing: Whether an existing output is replaced (`--force`).
  ///   - inputs: The files that are read.
  ///   - interruption: The token that stops the work.
  /// - Throws: `output.…` where the destination refuses, and what the formats' writers throw.
  public init(
    _ plan: CheckpointPlan, replacing: Bool, inputs: [InputFile], interruption: Interruption
  ) throws(SurgeryError) {
    self.plan = plan
    self.interruption = interruption
    transaction = try OutputTransaction(
      path: plan.path, kind: plan.kind, replacing: replacing, inputs: inputs,
      interruption: interruption)
    var files: [OutputFile] = []
    var writers: [any TensorFileWriter] = []
    for file in plan.files {
      writers.append(
        try file.makeWriter { [transaction] (size) throws(SurgeryError) in
          let made = try transaction.makeFile(file.relativePath, size: size)
          files.append(made)
          return made
        })
    }
    for extra in plan.extras {
      files.append(try Self.write(extra, in: transaction))
    }
    self.files = files
    self.writers = writers
  }

  private static func write(
    _ extra: CheckpointPlan.Extra, in transaction: OutputTransaction
  ) throws(SurgeryError) -> OutputFile {
    switch extra.content {
    case .bytes(let bytes):
      let file = try transaction.makeFile(extra.relativePath, size: UInt64(bytes.count))
      try file.write(bytes, at: 0)
      return file
    case .link(let input):
      if let file = transaction.linkFile(extra.relativePath, to: input) { return file }
      return try copy(input, as: extra.relativePath, in: transaction)
    case .copy(let path):
      return try copy(try InputFile(path), as: extra.relativePath, in: transaction)
    }
  }

  private static func copy(
    _ input: InputFile, as relativePath: String, in transaction: OutputTransaction
  ) throws(SurgeryError) -> OutputFile {
    let file = try transaction.makeFile(relativePath, size: input.size)
    var scratch = [UInt8](repeating: 0, count: 1 << 16)
    try file.copy(from: input, at: 0, count: Int(input.size), to: 0, scratch: &scratch)
    return file
  }

  /// Whether tensors of a file must be written one after the other, each from front to back.
  public func isSequential(file: Int) -> Bool { writers[file].isSequential }

  /// Writes bytes of a planned tensor; any thread, any order, unless its file is sequential.
  ///
  /// - Parameters:
  ///   - bytes: Elements in row-major order, little-endian.
  ///   - place: The tensor.
  ///   - offset: Position of `bytes` in the tensor.
  ///   - stage: Where they may wait; the worker that owns it flushes it before its work is done.
  /// - Throws: `io.write` or `output.no-space`.
  public func write(
    _ bytes: RawSpan, to place: PlannedTensor, at offset: Int, through stage: WriteStage
  ) throws(SurgeryError) {
    try writers[place.file].write(bytes, tensor: place.tensor, at: offset, through: stage)
  }

  /// Writes bytes of a planned tensor that are made in place; any thread, any order, unless its file is sequential.
  ///
  /// - Parameters:
  ///   - count: How many bytes.
  ///   - place: The tensor.
  ///   - offset: Position of the bytes in the tensor.
  ///   - stage: Where they are made and may wait.
  ///   - make: Fills the room for the bytes.
  /// - Throws: `io.write` or `output.no-space`, and what `make` throws.
  public func fill(
    _ count: Int, of place: PlannedTensor, at offset: Int, through stage: WriteStage,
    _ make: (inout MutableRawSpan) throws(SurgeryError) -> Void
  ) throws(SurgeryError) {
    if let start = writers[place.file].plainOffset(of: place.tensor) {
      return try stage.fill(count, of: files[place.file], at: start + UInt64(offset), make)
    }
    try stage.withScratch(count, make) { (bytes) throws(SurgeryError) in
      try writers[place.file].write(bytes, tensor: place.tensor, at: offset, through: stage)
    }
  }

  /// Writes all of a planned tensor as whole numbers with a step a row.
  ///
  /// - Parameters:
  ///   - matrix: At most as many rows as planned; rows left out at the end do not exist in the file.
  ///   - place: The tensor.
  /// - Throws: `io.write` or `output.no-space`.
  public func write(_ matrix: EncodedMatrix, to place: PlannedTensor) throws(SurgeryError) {
    try writers[place.file].write(matrix, tensor: place.tensor)
  }

  /// Copies a stored tensor as it is, inside the kernel where both sides lie plain and the page cache takes them.
  ///
  /// - Parameters:
  ///   - tensor: What to copy; its dtype and shape are those planned.
  ///   - range: The bytes of the tensor to copy.
  ///   - place: Where it goes.
  ///   - scratch: A buffer for what the kernel cannot copy.
  ///   - stage: Where such bytes may wait.
  /// - Throws: What reading and writing throw.
  public func copy(
    _ tensor: StoredTensor, bytes range: Range<Int>, to place: PlannedTensor,
    scratch: inout [UInt8], through stage: WriteStage
  ) throws(SurgeryError) {
    if let source = tensor.source.plainOffset, !files[place.file].isDirect,
      let target = writers[place.file].plainOffset(of: place.tensor)
    {
      try files[place.file].copy(
        from: tensor.source.file, at: source + UInt64(range.lowerBound), count: range.count,
        to: target + UInt64(range.lowerBound), scratch: &scratch)
      return
    }
    var reader = try tensor.source.makeReader()
    var position = range.lowerBound
    while position < range.upperBound {
      let size = min(range.upperBound - position, scratch.count)
      try fill(size, of: place, at: position, through: stage) { (target) throws(SurgeryError) in
        try reader.read(at: position, into: &target)
      }
      position += size
    }
  }

  /// Completes the output and gives it its name.
  ///
  /// - Throws: What `finish` and `publish` throw; nothing is visible then, but for `output.unconfirmed`.
  public func commit() throws(SurgeryError) {
    try finish()
    try publish()
  }

  /// Completes the files, reads their headers back and flushes all: what is left to do can hardly fail.
  ///
  /// - Throws: `io.…`, `output.…`; nothing is visible then.
  public func finish() throws(SurgeryError) {
    for writer in writers { try writer.finish() }
    for (file, planned) in zip(files, plan.files) {
      try ContentHashes.complete(planned, file, interruption: interruption)
      try readBack(file, as: planned)
    }
    try transaction.prepare(files)
  }

  private func readBack(_ file: OutputFile, as planned: TensorFilePlan) throws(SurgeryError) {
    let found: String
    do throws(SurgeryError) {
      let count = try TensorFile(opening: file.temporary.string, limits: .none).tensors.count
      if count == planned.tensors.count { return }
      found = "\(count)"
    } catch {
      found = error.what
    }
    throw SurgeryError(
      .io, "output.read-back", "the written file does not read back as planned", file: file.path,
      expected: "\(planned.tensors.count, counting: "tensor")", found: found)
  }

  /// Gives the output its name.
  ///
  /// - Throws: `output.…`.
  public func publish() throws(SurgeryError) { try transaction.publish() }
}
