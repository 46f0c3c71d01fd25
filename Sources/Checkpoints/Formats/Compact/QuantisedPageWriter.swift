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
    let bits = Int32(shift)
    var hasOutliers = false
    let start = tops.count
    tops.append(contentsOf: repeatElement(0, count: codes.count))
    unsafe codes.withUnsafeBufferPointer { codes in
      unsafe tops.withUnsafeMutableBufferPointer { tops in
        for index in 0..<codes.count {
          let top = unsafe codes[index] &>> bits
          let isOutlier = top &+ 127 < 0 || top > 127
          hasOutliers = hasOutliers || isOutlier
          unsafe tops[start &+ index] = isOutlier ? 0x80 : UInt8(truncatingIfNeeded: top)
        }
      }
    }
    if hasOutliers {
      for code in codes where !(-127...127).contains(code >> bits) {
        outliers.appendLittleEndian(UInt16(bitPattern: Int16(clamping: code >> bits)))
      }
    }
    if shift > 0 { appendLows(of: codes, shift: UInt64(shift)) }
    cuts.append(tops.count)
  }

  private mutating func appendLows(of codes: ArraySlice<Int32>, shift: UInt64) {
    let mask = (UInt64(1) << shift) - 1
    var (bits, count) = (UInt64(0), UInt64(0))
    lows.reserveCapacity(
      lows.count + QuantisedPage.lowBytes(count: codes.count, shift: Int(shift)))
    unsafe codes.withUnsafeBufferPointer { codes in
      for index in 0..<codes.count {
        bits |= (UInt64(truncatingIfNeeded: unsafe codes[index]) & mask) &<< count
        count &+= shift
        while count >= 8 {
          lows.append(UInt8(truncatingIfNeeded: bits))
          bits &>>= 8
          count &-= 8
        }
      }
    }
    if count > 0 { lows.append(UInt8(truncatingIfNeeded: bits)) }
  }

  /// The shift that costs the fewest bits, by the entropy of the tops.
  private static func shift(of codes: ArraySlice<Int32>, unused: Int) -> Int {
    let (squares, largest) = measure(codes)
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
    let first = max(least, most - shiftsTried + 1)
    guard least < most, first < most else { return most }
    var best = (shift: most, cost: Double.infinity)
    var counts = TopCounts(of: codes, shift: first)
    counts.remove(zeros: unused)
    for shift in first...most {
      if shift > first { counts.halve() }
      let bytes = counts.bytes
      let cost =
        estimatedBits(bytes) + 16 * Double(bytes[0])
        + Double((codes.count - unused) * shift)
      if cost < best.cost { best = (shift, cost) }
    }
    return best.shift
  }

  /// The sum of squares and the largest magnitude.
  private static func measure(_ codes: ArraySlice<Int32>) -> (squares: Double, largest: UInt32) {
    unsafe codes.withUnsafeBufferPointer { codes in
      var (squares, largest) = (0.0, UInt32(0))
      // Of so many codes below 2^22 the squares cannot exceed 64 bits.
      let part = 1 << 16
      for start in stride(from: 0, to: codes.count, by: part) {
        var sum = UInt64(0)
        for index in start..<min(start + part, codes.count) {
          let size = unsafe codes[index].magnitude
          sum &+= UInt64(size) &* UInt64(size)
          largest = size > largest ? size : largest
        }
        squares += Double(sum)
      }
      return (squares, largest)
    }
  }
}

/// How often each top occurs at a shift; at the next one, two neighbours become one.
private struct TopCounts {
  /// Tops of `-half ..< half`; what lies beyond is an outlier at every shift that is tried.
  private var counts: [UInt32]
  private var beyond: UInt32 = 0

  /// Twice as many at each shift that is tried before the last, where -127 to 127 are told apart.
  private static let half: Int32 = 128 << 4

  init(of codes: ArraySlice<Int32>, shift: Int) {
    var counts = [UInt32](repeating: 0, count: Int(2 * Self.half))
    var beyond: UInt32 = 0
    let bits = Int32(shift)
    unsafe codes.withUnsafeBufferPointer { codes in
      unsafe counts.withUnsafeMutableBufferPointer { counts in
        for index in 0..<codes.count {
          let place = unsafe (codes[index] &>> bits) &+ Self.half
          if place >= 0, place < 2 &* Self.half {
            unsafe counts[Int(place)] &+= 1
          } else {
            beyond &+= 1
          }
        }
      }
    }
    (self.counts, self.beyond) = (counts, beyond)
  }

  /// Leaves zeros out that will not be stored.
  mutating func remove(zeros: Int) { counts[counts.count / 2] -= UInt32(zeros) }

  /// Goes to the next shift.
  mutating func halve() {
    for index in 0..<counts.count / 2 {
      counts[index] = counts[2 * index] &+ counts[2 * index + 1]
    }
    counts.removeLast(counts.count / 2)
  }

  /// The counts of the bytes that are stored: -127 to 127, and -128 for all outliers.
  var bytes: [UInt32] {
    let middle = counts.count / 2
    var bytes = [UInt32](repeating: 0, count: 256)
    var inside: UInt32 = 0
    for top in max(-127, -middle)...min(127, middle - 1) {
      bytes[top + 128] = counts[middle + top]
      inside += counts[middle + top]
    }
    bytes[0] = counts.reduce(beyond, +) - inside
    return bytes
  }
}
