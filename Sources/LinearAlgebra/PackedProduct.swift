internal import CTensorKernels
public import Tensors

/// The product of two low-rank factors, packed so that blocks of it can be added to blocks of a matrix.
///
///     let product = PackedProduct(up: up, down: down)
///     product.add(to: &block, rows: 0..<64, columns: 0..<4096, times: 2)
///
/// Every element is summed over the rank in one order by fused multiplications and additions, so it has the same bits on
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

extension PackedProduct {
  /// Adds whole rows of the product to stored elements and rounds each sum once to nearest even, in one pass.
  ///
  /// The result has the same bits on every machine and in whatever rows it is computed. In single precision, each delta is a
  /// float, summed in the order of the rank as BLAS does for the peers: a result is further than a unit in the last place from
  /// the exact one only where base and delta cancel to less than a 1024th.
  ///
  /// - Parameters:
  ///   - source: `rows.count * columns` elements of `dtype`, little-endian.
  ///   - dtype: The type of source and target.
  ///   - target: Receives as many elements of the same type.
  ///   - rows: Rows of the product.
  ///   - factor: Multiplies the product.
  /// - Returns: What was done, or `nil` where there is no such kernel for the type and nothing was done.
  /// - Complexity: O(*rows* · *columns* · *rank*).
  public func add(
    to source: RawSpan, of dtype: DType, into target: inout MutableRawSpan, rows: Range<Int>,
    times factor: Double
  ) -> AdditionSums? {
    precondition(rows.lowerBound >= 0 && rows.upperBound <= self.rows, "rows outside the product")
    let size = dtype.byteCount(ofElements: rows.count * columns)
    precondition(source.byteCount == size && target.byteCount == size, "other elements")
    var sums = lora_addition()
    let isDone = withPointers { factors in
      unsafe source.withUnsafeBytes { source in
        unsafe target.withUnsafeMutableBytes { target in
          guard let source = source.baseAddress, let target = target.baseAddress else {
            return false
          }
          return unsafe Scalar.routines.merge(dtype, factors, factor, rows, source, target, &sums)
        }
      }
    }
    return isDone ? AdditionSums(sums) : nil
  }

  private func withPointers<Result>(_ body: (PackedFactors<Scalar>) -> Result) -> Result {
    unsafe up.elements.withUnsafeBufferPointer { elements in
      unsafe panels.withUnsafeBufferPointer { panels in
        unsafe body(
          PackedFactors(
            up: elements.baseAddress, panels: panels.baseAddress, rank: up.columns,
            columns: columns))
      }
    }
  }
}

/// The packed factors of a product as kernels take them, lent for one call.
@safe
struct PackedFactors<Scalar: BLASScalar> {
  let up: UnsafePointer<Scalar>?
  let panels: UnsafePointer<Scalar>?
  let rank: Int
  let columns: Int
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
