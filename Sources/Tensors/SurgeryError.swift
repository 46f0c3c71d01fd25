/// What went wrong, where, and what to do about it.
///
/// One error type serves the whole package, so that every failure can name the file, the tensor, what was
/// expected and what was found. The one-line `description` has the form that scripts may rely on:
///
///     FILE: tensor "NAME": WHAT: expected E, found F (byte N) [id]
public struct SurgeryError: Error, Sendable, Hashable {
  /// The class of a failure; each class has one exit status in the command.
  public enum Kind: Sendable, Hashable {
    /// The request itself makes no sense (exit status 64).
    case usage
    /// Malformed, ambiguous or unsafe input (65).
    case data
    /// An input is missing or is no regular file (66).
    case missingInput
    /// Well-formed input of a kind that is not read (69).
    case unsupported
    /// An invariant of this program broke (70).
    case bug
    /// The output exists, or its place refuses it (73).
    case outputRefused
    /// Reading, writing or flushing failed, or an input changed while it was read (74).
    case io
    /// Another writer was first (75).
    case busy
    /// The system forbids it (77).
    case permission
    /// A signal asked the program to stop (128 + signal).
    case interrupted(signal: Int32)
  }

  /// The class of the failure.
  public var kind: Kind
  /// A stable name for this failure, such as `st.hole`; documented, and kept between versions.
  public var id: String
  /// What went wrong, in a few words.
  public var what: String
  /// The file, as the user named it.
  public var file: String?
  /// The tensor's name as stored.
  public var tensor: String?
  /// What a correct input has, with its unit.
  public var expected: String?
  /// What this input has, with its unit.
  public var found: String?
  /// Position in the file in bytes from its start.
  public var offset: UInt64?
  /// The option or the step that resolves it.
  public var hint: String?

  /// Creates an error; the parts that do not apply stay `nil`.
  public init(
    _ kind: Kind, _ id: String, _ what: String, file: String? = nil, tensor: String? = nil,
    expected: String? = nil, found: String? = nil, offset: UInt64? = nil, hint: String? = nil
  ) {
    self.kind = kind
    self.id = id
    self.what = what
    self.file = file
    self.tensor = tensor
    self.expected = expected
    self.found = found
    self.offset = offset
    self.hint = hint
  }

  /// This error with a file, where it names none yet.
  public func inFile(_ path: String) -> Self {
    var error = self
    error.file = file ?? path
    return error
  }

  /// This error with a tensor, where it names none yet.
  public func inTensor(_ name: TensorName) -> Self {
    var error = self
    error.tensor = tensor ?? name.text
    return error
  }
}

extension SurgeryError: CustomStringConvertible {
  /// The failure in one line, without its hint.
  public var description: String {
    var line = ""
    if let file { line += DisplayText.escaped(file, limit: 1000) + ": " }
    if let tensor { line += "tensor \"" + DisplayText.escaped(tensor) + "\": " }
    line += DisplayText.escaped(what, limit: 1000)
    // What is expected lists the choices, which the user needs whole; what was found may be anything.
    let facts = [
      expected.map { "expected " + DisplayText.escaped($0, limit: 1000) },
      found.map { "found " + DisplayText.escaped($0) },
    ].compactMap(\.self)
    if !facts.isEmpty { line += ": " + facts.joined(separator: ", ") }
    if let offset { line += " (byte \(offset))" }
    return line + " [\(id)]"
  }
}
