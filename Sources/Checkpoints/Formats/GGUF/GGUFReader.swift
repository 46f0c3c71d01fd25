import Tensors

extension TensorFile {
  /// Opens a GGUF file of version 2 or 3; only its header is read.
  ///
  /// Dimensions are reversed from GGUF's `ne` to outermost first. Q8_0 tensors are delivered as F32; other quantised types
  /// keep their own dtype and can only be copied.
  ///
  /// - Throws: The `gguf.…` errors of the header's rules.
  static func gguf(_ file: InputFile) throws(SurgeryError) -> TensorFile {
    do throws(SurgeryError) {
      let header = try GGUFHeader(of: file)
      var tensors: [StoredTensor] = []
      for entry in header.entries {
        let plain = PlainSource(file: file, offset: entry.offset)
        guard entry.info.dtype == .blockQuantised(.q8_0) else {
          tensors.append(StoredTensor(info: entry.info, source: plain))
          continue
        }
        guard
          let info = TensorInfo(name: entry.info.name, dtype: .f32, shape: entry.info.shape)
        else {
          throw SurgeryError(
            .data, "gguf.overflow", "shape \(entry.info.shape) as F32 takes 2^63 bits or more",
            tensor: entry.info.name.text)
        }
        tensors.append(StoredTensor(info: info, source: Q8Source(blocks: plain)))
      }
      var opened = TensorFile(
        file: file, format: .gguf, tensors: tensors, metadata: header.texts,
        warnings: header.warnings)
      opened.ggufMetadata = header.metadata
      return opened
    } catch {
      throw error.inFile(file.path)
    }
  }
}
