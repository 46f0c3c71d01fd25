internal import CTensorKernels

/// The product of two low-rank factors, packed so that blocks of it can be added to blocks of a matrix.
///
///     let product = PackedProduct(up: up, down: down)
///     product.add(to: &block, rows: 0..<64, columns: 0..<4096, times: 2)
///
/// Every element is summed over the rank in one order without contracted operations, so it has the same bits on
/// every machine and in whatever block it is computed, which BLAS does not promise.
public struct PackedProduct<Scalar: BLASScalar>: Sendable {
  /// `rows x rank`.
  private let up: Matrix<Scalar>
  /// `down` in panels of sixteen columns, the last padded with zeros.
  private let panels: [Scalar]
  /// Columns of the product.
  public let columns: Int
  /// Rows of the product.
  public var rows: Int { up.rows }

  /// Packs two factors.
  ///
  /// - Parameters:
  ///   - up: `rows x rank`.
  ///   - down: `rank x columns`; another rank is a programming error.
  /// - Complexity: O(*rank* · *columns*).
  public init(up: Matrix<Scalar>, down: Matrix<Scalar>) {
    precondition(up.columns == down.rows, "ranks \(up.columns) and \(down.rows) differ")
    self.up = up
    columns = down.columns
    panels = packed(down.elements.span, rows: down.rows, columns: down.columns)
  }

  /// Adds a part of the product to a block.
  ///
  /// - Parameters:
  ///   - block: `rows.count x columns.count` elements.
  ///   - rows: Rows of the product.
  ///   - columns: Columns of the product.
  ///   - factor: Multiplies the product.
  /// - Complexity: O(*rows* · *columns* · *rank*).
  public func add(
    to block: inout Matrix<Scalar>, rows: Range<Int>, columns: Range<Int>, times factor: Scalar
  ) {
    precondition(block.rows == rows.count && block.columns == columns.count, "another block")
    precondition(
      rows.lowerBound >= 0 && rows.upperBound <= self.rows && columns.lowerBound >= 0
        && columns.upperBound <= self.columns, "a block outside the product")
    let rank = up.columns
    guard rank > 0, !rows.isEmpty, !columns.isEmpty else { return }
    block.withElements { target in
      unsafe target.withUnsafeMutableBufferPointer { target in
        unsafe up.elements.withUnsafeBufferPointer { up in
          unsafe panels.withUnsafeBufferPointer { panels in
            guard let up = up.baseAddress, let panels = panels.baseAddress,
              let target = target.baseAddress
            else { return }
            unsafe Scalar.routines.addProduct(
              up + rows.lowerBound * rank, rows.count, panels, rank, columns.lowerBound,
              columns.count, factor, target)
          }
        }
      }
    }
  }
}

/// The rows of a matrix cut into panels of sixteen columns, one after the other.
@specialized(where Scalar == Float)
@specialized(where Scalar == Double)
private func packed<Scalar: BLASScalar>(
  _ source: Span<Scalar>, rows: Int, columns: Int
) -> [Scalar] {
  let width = LORA_PANEL
  var result = [Scalar](repeating: 0, count: (columns + width - 1) / width * width * rows)
  var target = result.mutableSpan
  for row in 0..<rows {
    for column in 0..<columns {
      let (panel, inside) = column.quotientAndRemainder(dividingBy: width)
      target[(panel &* rows &+ row) &* width &+ inside] = source[row &* columns &+ column]
    }
  }
  return result
}
