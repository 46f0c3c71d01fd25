import Adapters
import Checkpoints
import Tensors

/// What a part's piece says of itself: what it was made from, and what it holds.
struct PieceManifest: Sendable, Codable {
  /// What became of one tensor.
  struct Entry: Sendable, Codable {
    /// The tensor's place among all tensors of the operation.
    var position: Int
    /// What was done; of a rewriting without the sums, which are known only after the header is written.
    var report: TensorReport
    /// What extraction keeps of it.
    var extracted: Extracted?
    /// Where rewriting put it; nothing where it is left out.
    var rewritten: Rewritten?
    /// What the user should know of it.
    var warning: String?
  }

  /// What a piece holds of an extracted tensor.
  struct Extracted: Sendable, Codable {
    enum Content: String, Sendable, Codable { case factors, full, difference }
    enum Form: String, Sendable, Codable { case linear, embedding, convolution, experts }
    var content: Content
    var form: Form?
    /// Whether the base stores the transpose of the layer's matrix.
    var isTransposed = false
    /// What tells the base's tensor from others, for dialects that record it.
    var base: BaseFingerprint.Sample
  }

  /// Where a rewritten tensor came from and lies.
  struct Rewritten: Sendable, Codable {
    /// Its name in the result.
    var name: TensorName
    /// The file of the source that it belongs to; `nil` for one that an adapter adds.
    var file: Int?
    /// The complete file of the result that holds it; `nil` where it lies in the piece's own file.
    var shard: Shard?
    /// Whether updates were applied, so that sums belong to it.
    var isChanged: Bool
  }

  /// A place in a complete file of the result.
  struct Shard: Sendable, Codable {
    /// The file's path in the result and in the piece.
    var path: String
    /// The tensor's name in the file.
    var name: TensorName
  }

  /// What the layout of an extracted adapter needs to know of the base.
  struct Extraction: Sendable, Codable {
    /// The text of its configuration.
    var baseConfig: String?
    /// Tensors that only one of the models has.
    var unpaired: [TensorReport]
  }

  /// What the layout of a rewritten checkpoint needs to know of its source.
  struct Rewriting: Sendable, Codable {
    /// A file of the source, with the metadata of the result.
    struct File: Sendable, Codable {
      var relativePath: String
      var format: FileFormat
      var metadata: [String: String]
    }
    var layout: Checkpoint.Layout
    var files: [File]
    /// Files beside the tensors, by their relative paths; the first part holds their bytes.
    var companions: [String]
    /// The container that the tensors were converted for.
    var format: FileFormat
    var form: OutputForm
    var adapters: [AdapterReport]?
    /// What changed in the configuration, in words.
    var configChange: String?
  }

  var version = Version.current
  var command: String
  var part: Part
  /// The request as JSON, without what differs from machine to machine.
  var options: String
  var inputs: [InputFingerprint]
  /// Bytes of the input's tensors.
  var inputBytes: Int
  /// Bytes of them that this part reads.
  var ownBytes = 0
  /// Tensors of the operation, over all parts.
  var positions: Int
  var warnings: [String]
  var extraction: Extraction?
  var rewriting: Rewriting?
  var entries: [Entry] = []

  /// The first thing in which two parts do not belong together, as what is expected and what is found.
  func disagreement(with other: Self) -> (what: String, expected: String, found: String)? {
    if version != other.version { return ("version", version, other.version) }
    if command != other.command { return ("command", command, other.command) }
    if part.count != other.part.count {
      return ("number of parts", "\(part.count)", "\(other.part.count)")
    }
    if options != other.options { return differingOption(other) }
    guard inputs.count == other.inputs.count else {
      return ("number of input files", "\(inputs.count)", "\(other.inputs.count)")
    }
    for (own, its) in zip(inputs, other.inputs) where !own.matches(its) {
      return (
        "input", "\(own.name) of \(own.size) bytes",
        "\(its.name) of \(its.size) bytes with other content"
      )
    }
    return positions == other.positions
      ? nil : ("number of tensors", "\(positions)", "\(other.positions)")
  }

  private func differingOption(
    _ other: Self
  ) -> (what: String, expected: String, found: String) {
    let own = (try? JSONValue(parsing: Array(options.utf8)))?.members ?? []
    let its = (try? JSONValue(parsing: Array(other.options.utf8)))?.members ?? []
    let keys = (own + its).map(\.key)
    for key in keys {
      let (mine, theirs) = (own.first { $0.key == key }, its.first { $0.key == key })
      if mine?.value != theirs?.value {
        return (
          "option \(key)", mine?.value.text() ?? "none", theirs?.value.text() ?? "none"
        )
      }
    }
    return ("options", options, other.options)
  }
}
