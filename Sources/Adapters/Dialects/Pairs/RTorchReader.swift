import Checkpoints
import Tensors

/// `torch_save` of the R package torch: safetensors with the R object beside the tensors
/// (mlverse/torch:R/save.R; dialects.md, section 15).
enum RTorchReader: DialectReader {
  static func recognises(_ files: AdapterFiles) -> String? {
    files.metadata["__r__"] == nil ? nil : "metadata: __r__, written by R"
  }

  static func read(
    _ files: AdapterFiles, options: AdapterOptions, reason: String
  ) throws(SurgeryError) -> Adapter {
    var trained: Set<String>?
    if let text = files.metadata["__r__"] {
      let description = try JSONValue(parsing: Array(text.utf8))
      if description["type"]?.text == "list" {
        throw SurgeryError.adapter(
          "r-list", "R saved a list, whose tensors are named by their addresses in memory",
          expected: "a saved module", found: "__r__ type \"list\"",
          hint:
            "save the module itself with torch_save, or its state with safetensors::safe_save_file")
      }
      trained = description["requires_grad"]?.members.map { members in
        Set(members.filter { $0.value.flag == true }.map(\.key))
      }
    }
    let reader = try PairReader(
      files, dialect: .rTorch, convention: .forwardTransposed, options: options)
    return try reader.adapter(files, reason: reason) { (tensor, adapter) throws(SurgeryError) in
      if tensor.name.text == "__robj__" { return }
      // Frozen weights of the base lie in the same file.
      if let trained, !trained.contains(tensor.name.text) { return }
      try LoralibReader.addStored(tensor, to: &adapter)
    }
  }
}
