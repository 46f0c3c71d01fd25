import Tensors

extension TensorFile {
  /// Opens a safetensors file; only its header is read.
  ///
  /// - Throws: The `st.…` errors of the header's rules.
  static func safetensors(_ file: InputFile) throws(SurgeryError) -> TensorFile {
    do throws(SurgeryError) {
      let header = try SafetensorsHeader(of: file)
      return TensorFile(
        file: file, format: .safetensors,
        tensors: header.entries.map {
          StoredTensor(
            info: $0.info, source: PlainSource(file: file, offset: header.dataOffset + $0.begin))
        },
        metadata: header.metadata, warnings: header.warnings)
    } catch {
      throw error.inFile(file.path)
    }
  }
}
