import Checkpoints
import Tensors

/// The base of a conversion: a model, or only its configuration.
struct ConversionBase {
  let model: Checkpoint?
  let config: JSONValue?

  /// Opens the base, of which GGUF needs no more than `config.json`.
  init(opening path: String?, limits: ReadLimits) throws(SurgeryError) {
    guard let path else {
      (model, config) = (nil, nil)
      return
    }
    do throws(SurgeryError) {
      let opened = try Checkpoint(opening: path, limits: limits)
      (model, config) = (opened, opened.config)
    } catch {
      guard error.kind == .missingInput,
        let config = try? JSONValue(readingFile: path + "/config.json")
      else { throw error }
      (model, self.config) = (nil, config)
    }
  }
}
