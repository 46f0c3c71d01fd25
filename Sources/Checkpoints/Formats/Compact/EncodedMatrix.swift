public import Tensors

/// A matrix of whole numbers as the pages of a compact file.
public struct EncodedMatrix: Sendable {
  /// Rows of the matrix.
  let rows: Int
  /// Elements of a row.
  let columns: Int
  /// The pages, first rows first.
  let pages: [[UInt8]]
}

extension QuantisedMatrix {
  /// Encodes the matrix; this is what writing one costs, and needs no file.
  ///
  /// - Returns: The pages.
  /// - Throws: `zip.memory`.
  /// - Complexity: O(*elements*).
  public func encoded() throws(SurgeryError) -> EncodedMatrix {
    let step = QuantisedPage.rowsPerPage(columns: columns)
    var pages: [[UInt8]] = []
    for row in stride(from: 0, to: rows, by: step) {
      pages.append(try QuantisedPageWriter.encode(rows(row..<min(row + step, rows))))
    }
    return EncodedMatrix(rows: rows, columns: columns, pages: pages)
  }
}
