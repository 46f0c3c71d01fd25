public import Tensors

extension TensorFile {
  /// Opens a safetensors file, whatever its name; only its header is read.
  ///
  /// - Parameter file: The opened file.
  /// - Returns: The file's tensors and metadata.
  /// - Throws: The `st.…` errors of the header's rules.
  public static func safetensors(_ file: InputFile) throws(SurgeryError) -> TensorFile {
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
