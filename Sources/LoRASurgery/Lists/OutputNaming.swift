public import Checkpoints
public import Tensors

/// Where the results go when an operation takes one input after the other.
public struct OutputNaming: Sendable, Codable, Hashable {
  /// The folder for all results; `nil` puts each beside its input.
  public var folder: String?
  /// What stands in the place of the inputs' extensions, such as `-half.safetensors`.
  public var suffix: String?
  /// The container that results are written in; by default that of each input.
  public var format: FileFormat?

  /// Names results.
  public init(folder: String?, suffix: String? = nil, format: FileFormat? = nil) {
    self.folder = folder
    self.suffix = suffix
    self.format = format
  }

  /// The path of the result of each input.
  ///
  /// - Parameter inputs: Files and folders.
  /// - Returns: One path for each input.
  /// - Throws: `output.name` where a name is no name of a file, `output.twice` where two inputs would have one result.
  public func outputs(for inputs: [String]) throws(SurgeryError) -> [String] {
    var origins: [String: String] = [:]
    var outputs: [String] = []
    for input in inputs {
      let output = try self.output(for: input)
      if let other = origins.updateValue(input, forKey: output) {
        throw SurgeryError(
          .usage, "output.twice", "two inputs would have the same output", file: output,
          found: "\(other) and \(input)", hint: "convert them into different folders")
      }
      outputs.append(output)
    }
    return outputs
  }

  private func output(for input: String) throws(SurgeryError) -> String {
    let components = input.split(separator: "/")
    guard let name = components.last, name != ".", name != ".." else {
      throw SurgeryError(
        .usage, "output.name", "the input's path ends in no name that the output could have",
        file: input)
    }
    let isNamed = FileFormat(extensionOf: String(name)) != nil
    let stem = isNamed ? name[..<(name.lastIndex(of: ".") ?? name.endIndex)] : name
    let ending = suffix ?? (isNamed ? ".\(fileExtension(of: String(name)))" : "")
    guard !ending.contains("/") else {
      throw SurgeryError(.usage, "output.name", "a suffix holds no slash", found: ending)
    }
    return (folder.map { $0.hasSuffix("/") ? $0 : $0 + "/" } ?? Self.parent(of: input))
      + stem + ending
  }

  private static func parent(of path: String) -> String {
    let end = path.lastIndex { $0 != "/" } ?? path.startIndex
    return path[...end].lastIndex(of: "/").map { String(path[...$0]) } ?? ""
  }

  private func fileExtension(of name: String) -> String {
    if let format { return format.fileExtension }
    // Files of PyTorch are read, not written.
    if FileFormat(extensionOf: name) == .torch { return FileFormat.safetensors.fileExtension }
    return String(name[(name.lastIndex(of: ".") ?? name.endIndex)...].dropFirst())
  }
}

/// Whether a result that is there already is made again.
public enum Renewal: String, Sendable, Codable, CaseIterable {
  /// Always; whether an existing output may be replaced is another question.
  case always
  /// Only where there is no output (`--skip-existing`).
  case missing
  /// Only where there is no output or the input was changed after it (`--newer`).
  case newer

  /// Why a result need not be made.
  ///
  /// - Parameters:
  ///   - input: The path of the input.
  ///   - output: The path of the result.
  /// - Returns: A few words, or `nil` where the result is to be made.
  /// - Complexity: One system call for each file of both.
  public func reasonToSkip(_ input: String, _ output: String) -> String? {
    guard self != .always, let made = PathFacts(of: output) else { return nil }
    if self == .missing { return "exists" }
    guard let source = PathFacts(of: input) else { return nil }
    return source.modified <= made.modified ? "not older than the input" : nil
  }
}
