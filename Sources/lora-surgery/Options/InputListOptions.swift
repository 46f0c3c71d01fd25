import ArgumentParser
import Checkpoints
import LoRASurgery
import Tensors

/// Inputs beyond the operands.
struct FileListOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Take the names of inputs from this file, one a line; - is standard input.", valueName: "file"
    ), completion: .file())
  var filesFrom: String?

  @Flag(
    name: [.customShort("0"), .customLong("null")],
    help: "The names of --files-from end in NUL bytes, as find -print0 writes them.")
  var endInNull = false

  func validate() throws {
    if endInNull, filesFrom == nil { throw ValidationError("-0 goes with --files-from") }
  }

  /// The operands, then the names of the list.
  func paths(_ operands: [String]) throws -> [String] {
    guard let filesFrom else {
      if operands.isEmpty { throw ValidationError("Missing expected argument '<input> ...'") }
      return operands
    }
    let bytes = try WholeStream.bytes(of: filesFrom)
    let end: UInt8 = endInNull ? 0 : UInt8(ascii: "\n")
    return try operands
      + bytes.split(separator: end).map { name in
        guard let text = String(validating: name, as: UTF8.self) else {
          throw SurgeryError(
            .data, "list.name", "a name in the list is no UTF-8", file: filesFrom,
            found: String(decoding: name, as: UTF8.self))
        }
        return text
      }
  }
}

/// Many inputs, each with a result of its own.
struct InputListOptions: ParsableArguments {
  @Option(
    name: .shortAndLong,
    help: ArgumentHelp(
      """
      Where the result goes; its extension says the format, a name without one is a folder, - is standard output. \
      Of several inputs the folder for all results.
      """, valueName: "path"), completion: .checkpoints)
  var output: String?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "What stands in the place of the inputs' extensions in the names of several results, as -half.safetensors.",
      valueName: "text"))
  var suffix: String?

  @Flag(help: "Leave inputs alone whose output exists.")
  var skipExisting = false

  @Flag(help: "Only inputs that are newer than their output, which is replaced.")
  var newer = false

  @OptionGroup var names: FileListOptions

  func validate() throws {
    if skipExisting, newer {
      throw ValidationError("--skip-existing and --newer contradict each other")
    }
  }

  private var renewal: Renewal { newer ? .newer : skipExisting ? .missing : .always }

  /// Whether results are named after their inputs.
  private func isList(_ operands: [String]) -> Bool {
    names.filesFrom != nil || operands.count > 1 || suffix != nil
  }

  /// The one input and its output, where there must be no more.
  func single(_ operands: [String]) throws -> (input: String, output: String) {
    guard operands.count == 1, !isList(operands) else {
      throw ValidationError("one input is needed here; for-each takes many")
    }
    guard let output else { throw ValidationError("Missing expected argument '--output <path>'") }
    return (operands[0], output)
  }

  /// Runs an operation on the one input, or on one after the other.
  ///
  /// - Parameters:
  ///   - command: The command's name.
  ///   - operands: The inputs on the command line.
  ///   - format: The container that results are written in, where the options say it.
  ///   - part: The share of the list, or of the one input, to deal with.
  ///   - writing: How results are written.
  ///   - common: Threads, memory and what is printed.
  ///   - operation: Deals with one input: its path, that of its result, whether an existing one is replaced, the share of it
  ///     to do, and the means.
  /// - Throws: What the operation throws on the only input; of a list the exit status of the first failure.
  func run(
    _ command: String, _ operands: [String], format: FileFormat?, part: Part? = nil,
    writing: WritingOptions, common: CommonOptions,
    _ operation:
      @escaping @Sendable (InputList.Item, String, Bool, Part?, Execution)
      throws(SurgeryError) -> OperationReport
  ) throws {
    let inputs = try names.paths(operands)
    let mayReplace = writing.force || newer
    guard isList(operands) else {
      guard let output else {
        throw ValidationError("Missing expected argument '--output <path>'")
      }
      let item = InputList.Item(input: inputs[0], output: output)
      if output != "-", let reason = renewal.reasonToSkip(item.input, output) {
        let printer = ListPrinter(command: command, common: common)
        printer.receive(item, .skipped(reason))
        return try printer.finish()
      }
      let report = try common.execute(to: output, as: format) {
        (path, execution) throws(SurgeryError) in
        try operation(item, path, mayReplace, part, execution)
      }
      try common.show(report)
      return
    }
    guard output != "-" else {
      throw ValidationError("several results do not go to standard output; -o names a folder")
    }
    guard output != nil || suffix != nil else {
      throw ValidationError("several inputs need -o FOLDER, --suffix TEXT, or both")
    }
    let outputs = try OutputNaming(folder: output, suffix: suffix, format: format)
      .outputs(for: inputs)
    var list = InputList(
      zip(inputs, outputs).map { .init(input: $0, output: $1) }, renewal: renewal)
    if let part { list = list.share(of: part) }
    if let output, !writing.dryRun { try Places.makeFolder(output) }
    let printer = ListPrinter(command: command, common: common)
    try common.execute { [list] (execution) throws(SurgeryError) in
      try list.run(execution) { (item, execution) throws(SurgeryError) in
        try operation(item, item.output ?? "", mayReplace, nil, execution)
      } receive: { item, outcome in
        printer.receive(item, outcome)
      }
    }
    try printer.finishWithSums()
  }
}
