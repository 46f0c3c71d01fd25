import Tensors

/// A matrix of whole numbers with one step a row: element `[k, i]` is `codes[k · columns + i] · step[k]`.
///
/// A step is a bfloat16, so that its product with a code below 2^16 is exact in float32 and the same on every machine.
public struct QuantisedMatrix: Sendable, Hashable {
  /// Elements of a row.
  public let columns: Int
  /// The bit pattern of each row's step as bfloat16; finite and not negative.
  public private(set) var steps: [UInt16]
  /// The codes, row after row; of magnitude below 2^22.
  public private(set) var codes: [Int32]

  /// The most that a code may be from zero: 15 bits and 7 bits of shift.
  public static let maximumCode: Int32 = (1 << 22) - 1

  /// Wraps steps and `steps.count · columns` codes; another count is a programming error.
  public init(columns: Int, steps: [UInt16], codes: [Int32]) {
    precondition(
      codes.count == steps.count * columns,
      "\(codes.count) codes do not make \(steps.count) rows of \(columns)")
    self.columns = columns
    self.steps = steps
    self.codes = codes
  }

  /// Rows.
  public var rows: Int { steps.count }

  /// The elements as float32, row-major.
  public var values: [Float] {
    var values = [Float](repeating: 0, count: codes.count)
    for row in 0..<rows {
      let step = FloatPatterns.widen(bf16: steps[row])
      for index in (row * columns)..<((row + 1) * columns) {
        values[index] = Float(codes[index]) * step
      }
    }
    return values
  }

  /// The elements as little-endian float32, row-major.
  public var bytes: [UInt8] {
    var bytes = [UInt8](repeating: 0, count: codes.count * 4)
    let values = values
    unsafe bytes.withUnsafeMutableBytes { target in
      for (index, value) in values.enumerated() {
        unsafe target.storeBytes(
          of: value.bitPattern.littleEndian, toByteOffset: 4 * index, as: UInt32.self)
      }
    }
    return bytes
  }

  /// Rows of this matrix.
  func rows(_ range: Range<Int>) -> QuantisedMatrix {
    QuantisedMatrix(
      columns: columns, steps: Array(steps[range]),
      codes: Array(codes[(range.lowerBound * columns)..<(range.upperBound * columns)]))
  }
}
