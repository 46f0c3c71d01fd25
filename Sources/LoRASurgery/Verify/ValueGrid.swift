import Tensors

/// The values that a dtype has, as far as a tensor shows them.
struct ValueGrid: Sendable {
  let dtype: DType
  private let format: FloatingPointFormat?
  /// The sum of the squares of the units at the values, divided by 12.
  private(set) var squaredRounding = 0.0
  /// Whether every value is one of the dtype's.
  private(set) var holdsAll = true

  init(_ dtype: DType) {
    self.dtype = dtype
    format = dtype.floatingPointFormat
  }

  /// Whether neighbours are further apart than those of another dtype.
  func isCoarser(than other: ValueGrid) -> Bool {
    (format?.unitOfOne ?? 0) > (other.format?.unitOfOne ?? 0)
  }

  /// A unit in the last place; 0 at zero, which every rounding keeps, and where there is none.
  func unit(at value: Double) -> Double {
    value == 0 || !value.isFinite ? 0 : format?.unit(at: value) ?? 0
  }

  /// Takes a value of the tensor into account.
  mutating func add(_ value: Double) {
    let unit = unit(at: value)
    squaredRounding += unit * unit / 12
    if holdsAll, unit > 0 { holdsAll = value.truncatingRemainder(dividingBy: unit) == 0 }
  }
}
