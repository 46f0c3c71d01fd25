import Adapters
import Checkpoints
import Tensors

/// The dialect and container in which an adapter is written, from the output's path and what was asked for.
struct AdapterForm {
  let dialect: Dialect
  let format: FileFormat
  let kind: OutputTransaction.Kind

  /// Decides: a path with a known extension is a file of that format, any other a folder with safetensors; containers that
  /// are dialects of their own say the dialect too.
  ///
  /// - Throws: `output.format` for a format that is only read.
  init(path: String, dialect: Dialect?) throws(SurgeryError) {
    let named = FileFormat(extensionOf: path)
    try named?.requireWritten(at: path)
    self.dialect = dialect ?? Dialect(containerOf: path) ?? .peft
    format = named ?? .safetensors
    kind = named == nil ? .folder : .file
  }

  func options(dtype: DType?) -> AdapterWritingOptions {
    var options = AdapterWritingOptions(dialect: dialect, format: format)
    options.dtype = dtype
    options.tool = "lora-surgery \(Version.current)"
    return options
  }
}

extension SurgeryError {
  /// The error for a pair of factors that only a base orients, in an operation that takes no base.
  static func unsolved(_ pair: UnsolvedPair, in adapter: String) -> Self {
    SurgeryError(
      .data, "adapter.ambiguous-orientation",
      "which product of the factors is meant is only known from the base", file: adapter,
      tensor: pair.first.tensor.name.text, hint: "convert the adapter to PEFT with --base first")
  }
}

extension Adapter {
  /// Elements of all tensors together.
  var parameterCount: Int {
    modules.reduce(0) { $0 + $1.update.parameterCount }
      + replacements.reduce(0) { $0 + $1.tensor.info.shape.elementCount }
  }
}
