import Checkpoints
import Tensors

/// Lightning's litgpt: loralib's keys under `transformer.h.`; alpha and the enabled parts stand in a YAML file that is not read,
/// so the user gives them (litgpt:litgpt/lora.py; dialects.md, section 14).
enum LitGPTReader: DialectReader {
  static func recognises(_ files: AdapterFiles) -> String? {
    let key = files.tensors.first {
      $0.name.text.hasSuffix(".lora_A") && $0.name.text.contains("transformer.h.")
        && (files.fileName.hasSuffix(".lora") || $0.name.text.contains(".attn.qkv."))
    }
    return key.map { "keys such as \(DisplayText.escaped($0.name.text))" }
  }

  static func read(
    _ files: AdapterFiles, options: AdapterOptions, reason: String
  ) throws(SurgeryError) -> Adapter {
    try PairReader(files, dialect: .litgpt, convention: nil, options: options)
      .adapter(files, reason: reason, other: LoralibReader.addStored)
  }
}
