import Checkpoints
import Tensors

/// Where a part's piece goes: the output itself, or a file or folder named after the part in an output that is a folder.
struct PieceDestination {
  let path: String

  /// Decides; an output that ends in a slash is created.
  ///
  /// - Throws: `output.…` where the folder cannot be created.
  init(output: String, part: Part, creating: Bool) throws(SurgeryError) {
    let isNamedFolder = output.hasSuffix("/")
    let folder = isNamedFolder ? String(output.dropLast()) : output
    let isPiece = Places.exists("\(folder)/\(Piece.fileName)")
    guard isNamedFolder || Places.isFolder(output), !isPiece else {
      path = folder
      return
    }
    if creating { try Places.makeFolder(folder) }
    path = "\(folder)/\(Self.name(of: part))"
  }

  /// Sorts in the order of the parts.
  private static func name(of part: Part) -> String {
    "\(prefix)\(padded(part.number))-of-\(padded(part.count))"
  }

  static let prefix = "part-"

  private static func padded(_ number: Int) -> String {
    let digits = String(number)
    return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
  }
}

/// The tensors of a piece's own file, collected before its header is written.
struct PiecePlan {
  var manifest: PieceManifest
  private(set) var infos: [TensorInfo] = []

  init(_ manifest: PieceManifest) { self.manifest = manifest }

  /// Adds a tensor.
  ///
  /// - Returns: Its place; the own file is the first of the piece.
  mutating func add(
    _ name: TensorName, _ dtype: DType, _ shape: Shape
  ) throws(SurgeryError) -> PlannedTensor {
    guard let info = TensorInfo(name: name, dtype: dtype, shape: shape) else {
      throw SurgeryError(.bug, "bug.tensor-size", "no size of \(shape) \(dtype)")
    }
    infos.append(info)
    return PlannedTensor(file: 0, tensor: infos.count - 1)
  }

  /// The piece as an output: a file, or a folder where complete files of the result belong to it.
  func output(to path: String, shards: [TensorFilePlan]) throws(SurgeryError) -> CheckpointPlan {
    let text = try ManifestJSON.text(manifest)
    let own = TensorFilePlan(
      relativePath: Piece.fileName, format: .safetensors, tensors: infos,
      metadata: [
        Piece.manifestKey: text, Piece.checksumKey: String(Array(text.utf8).crc32),
      ])
    return CheckpointPlan(
      path: path, kind: shards.isEmpty ? .file : .folder, files: [own] + shards)
  }
}

extension PieceManifest {
  /// Makes the part's piece, unless it is there already: a task that a scheduler runs again succeeds.
  ///
  /// - Parameters:
  ///   - path: Where the piece goes.
  ///   - replacing: Whether what is there is replaced in any case.
  ///   - make: Writes the piece.
  /// - Returns: The report of the part.
  /// - Throws: What `make` throws.
  func report(
    at path: String, replacing: Bool, _ make: () throws(SurgeryError) -> Void
  ) throws(SurgeryError) -> OperationReport {
    var isDone = !replacing && isDone(at: path)
    if !isDone {
      do throws(SurgeryError) { try make() } catch {
        // The same task may run twice at once, when a scheduler took its node for lost.
        guard error.id == "output.busy", self.isDone(at: path) else { throw error }
        isDone = true
      }
    }
    let piece = try Piece(opening: path)
    var report = OperationReport(command: command, modules: try piece.reports())
    report.part = PartReport(part: part, wasDone: isDone)
    report.output = path
    report.adapters = rewriting?.adapters
    report.warnings =
      warnings
      + TensorWarnings.lines(piece.manifest.entries.lazy.map { ($0.report.tensor, $0.warning) })
    report.totals.bytesRead = isDone ? 0 : piece.manifest.ownBytes
    report.totals.bytesWritten =
      isDone ? 0 : piece.files.reduce(0) { $0 + Int(clamping: $1.size) }
    return report
  }

  private func isDone(at path: String) -> Bool {
    guard let piece = try? Piece(opening: path) else { return false }
    return piece.manifest.part == part && disagreement(with: piece.manifest) == nil
  }
}

/// Which part of a divided operation a report is of.
public struct PartReport: Sendable, Codable {
  /// The part.
  public var part: Part
  /// Whether its piece was there already, so that nothing was done.
  public var wasDone: Bool
}
