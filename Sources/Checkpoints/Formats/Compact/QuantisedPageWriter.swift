import Tensors

/// Encodes rows of whole numbers as a page of a quantised tensor.
struct QuantisedPageWriter {
  /// Tops of rows are kept within this standard deviation, so that tables are small and outliers rare.
  private static let targetDeviation = 24.0
  /// Shifts below the one that the deviation asks for, which suit rows with few large codes.
  private static let shiftsTried = 5
  /// Columns from which on telling them apart is tried; below, the tables of classes cost more than they save.
  private static let classedColumns = 2048

  private let matrix: QuantisedMatrix
  private let classes: [UInt8]
  private var tops: [UInt8] = []
  private var lows: [UInt8] = []
  private var outliers: [UInt8] = []
  /// Where runs of tops end.
  private var cuts: [Int] = []

  /// Encodes the rows of one page, with columns told apart where that is shorter.
  ///
  /// - Parameter matrix: The rows.
  /// - Returns: The page.
  /// - Throws: `zip.memory`.
  static func encode(_ matrix: QuantisedMatrix) throws(SurgeryError) -> [UInt8] {
    let common = [UInt8](
      repeating: UInt8(QuantisedPage.commonClass), count: matrix.columns)
    var plain = QuantisedPageWriter(matrix, classes: common)
    let page = try plain.encoded()
    guard matrix.columns >= classedColumns else { return page }
    var classed = QuantisedPageWriter(matrix, classes: Self.classes(of: matrix))
    let other = try classed.encoded()
    return other.count < page.count ? other : page
  }

  private init(_ matrix: QuantisedMatrix, classes: [UInt8]) {
    self.matrix = matrix
    self.classes = classes
  }

  /// The class of a column is the octave of its codes' root mean square.
  private static func classes(of matrix: QuantisedMatrix) -> [UInt8] {
    var squares = [UInt64](repeating: 0, count: matrix.columns)
    for row in 0..<matrix.rows {
      for column in 0..<matrix.columns {
        let size = UInt64(matrix.codes[row * matrix.columns + column].magnitude)
        squares[column] &+= size * size
      }
    }
    return squares.map { sum in
      if sum == 0 { return 0 }
      // Four octaves below one are told apart: a column of which one code in 256 is not zero is in the lowest.
      let mean = sum * 256 / UInt64(matrix.rows)
      let octave = mean == 0 ? 0 : (63 - mean.leadingZeroBitCount) / 2
      return UInt8(min(1 + octave, QuantisedPage.maximumClass))
    }
  }

  private mutating func encoded() throws(SurgeryError) -> [UInt8] {
    let runs = QuantisedPage.columns(by: classes)
    var page: [UInt8] = []
    var rows: [(row: Int, shift: Int)] = []
    tops.reserveCapacity(matrix.codes.count)
    for row in 0..<matrix.rows {
      let codes = codes(of: row)
      let isZero = matrix.steps[row] == 0 || codes.allSatisfy { $0 == 0 }
      let shift = isZero ? 0 : Self.shift(of: codes, unused: runs[0].count)
      page.appendLittleEndian(isZero ? 0 : matrix.steps[row])
      page.append(UInt8(shift))
      if !isZero { rows.append((row, shift)) }
    }
    for run in runs.dropFirst() where !run.isEmpty {
      for (row, shift) in rows {
        if run.count == matrix.columns {
          append(codes(of: row), shift: shift)
        } else {
          let start = row * matrix.columns
          append(run.map { matrix.codes[start + $0] }[...], shift: shift)
        }
      }
    }
    return try page
      + CompactPlane.encode(
        [
          .init(classes, findsRepeats: false), .init(tops, cuts: cuts, findsRepeats: false),
          .init(lows, findsRepeats: false), .init(outliers, findsRepeats: false),
        ])
  }

  private func codes(of row: Int) -> ArraySlice<Int32> {
    matrix.codes[(row * matrix.columns)..<((row + 1) * matrix.columns)]
  }

  private mutating func append(_ codes: ArraySlice<Int32>, shift: Int) {
    let mask = (UInt64(1) << UInt64(shift)) - 1
    var (bits, count) = (UInt64(0), UInt64(0))
    for code in codes {
      let top = code >> Int32(shift)
      if (-127...127).contains(top) {
        tops.append(UInt8(bitPattern: Int8(truncatingIfNeeded: top)))
      } else {
        tops.append(0x80)
        outliers.appendLittleEndian(UInt16(bitPattern: Int16(clamping: top)))
      }
      if shift == 0 { continue }
      bits |= (UInt64(truncatingIfNeeded: code) & mask) << count
      count += UInt64(shift)
      while count >= 8 {
        lows.append(UInt8(truncatingIfNeeded: bits))
        bits >>= 8
        count -= 8
      }
    }
    if count > 0 { lows.append(UInt8(truncatingIfNeeded: bits)) }
    cuts.append(tops.count)
  }

  /// The shift that costs the fewest bits, by the entropy of the tops.
  private static func shift(of codes: ArraySlice<Int32>, unused: Int) -> Int {
    let squares = codes.reduce(0.0) { $0 + Double($1) * Double($1) }
    let largest = codes.reduce(UInt32(0)) { max($0, $1.magnitude) }
    var least = 0
    while least < QuantisedPage.maximumShift, largest >> UInt32(least) >= UInt32(Int16.max) {
      least += 1
    }
    var deviation = (squares / Double(max(codes.count - unused, 1))).squareRoot()
    var most = 0
    while most < QuantisedPage.maximumShift, most < least || deviation > targetDeviation {
      deviation /= 2
      most += 1
    }
    var best = (shift: most, cost: Double.infinity)
    for shift in max(least, most - shiftsTried + 1)...most where least < most {
      let cost = cost(of: codes, unused: unused, shift: shift)
      if cost < best.cost { best = (shift, cost) }
    }
    return best.shift
  }

  private static func cost(of codes: ArraySlice<Int32>, unused: Int, shift: Int) -> Double {
    var counts = [UInt32](repeating: 0, count: 256)
    for code in codes {
      let top = code >> Int32(shift)
      counts[(-127...127).contains(top) ? Int(top) + 128 : 0] += 1
    }
    counts[128] -= UInt32(unused)
    return estimatedBits(counts) + 16 * Double(counts[0])
      + Double((codes.count - unused) * shift)
  }
}
