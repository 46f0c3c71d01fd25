import Tensors

/// A page of a quantised tensor: whole rows.
///
/// For each row three bytes, its step (bfloat16, little-endian) and its shift; then three planes. A code is
/// `top · 2^shift + low`. The first plane has a byte for the top of each code of the rows whose step is not zero; -128 stands
/// for the next number of the third plane (16 bits, signed, little-endian). The second has a byte for the low of each code
/// of the rows whose shift is not zero.
enum QuantisedPage {
  /// Bytes in front of the planes for each row.
  static let rowSize = 3
  /// The greatest shift: a low fits a byte.
  static let maximumShift = 7
  /// Tops of rows are kept within this standard deviation, so that tables are small and outliers rare; what the shift
  /// takes away is noise.
  private static let targetDeviation = 24.0

  /// Rows of one page.
  static func rowsPerPage(columns: Int) -> Int {
    max(1, CompactFormat.elementsPerPage / max(columns, 1))
  }

  /// Encodes rows.
  ///
  /// - Parameter matrix: The rows of one page.
  /// - Returns: The page.
  /// - Throws: `zip.memory`.
  static func encode(_ matrix: QuantisedMatrix) throws(SurgeryError) -> [UInt8] {
    var page: [UInt8] = []
    var (tops, lows, outliers): ([UInt8], [UInt8], [UInt8]) = ([], [], [])
    tops.reserveCapacity(matrix.codes.count)
    for row in 0..<matrix.rows {
      let codes = matrix.codes[(row * matrix.columns)..<((row + 1) * matrix.columns)]
      let isZero = matrix.steps[row] == 0 || codes.allSatisfy { $0 == 0 }
      let shift = isZero ? 0 : shift(of: codes)
      page.appendLittleEndian(isZero ? 0 : matrix.steps[row])
      page.append(UInt8(shift))
      if isZero { continue }
      for code in codes {
        let top = code >> Int32(shift)
        if (-127...127).contains(top) {
          tops.append(UInt8(bitPattern: Int8(truncatingIfNeeded: top)))
        } else {
          tops.append(0x80)
          outliers.appendLittleEndian(UInt16(bitPattern: Int16(clamping: top)))
        }
      }
      if shift > 0 {
        let mask = (Int32(1) << Int32(shift)) - 1
        for code in codes { lows.append(UInt8(truncatingIfNeeded: code & mask)) }
      }
    }
    return page
      + (try CompactPlane.encode(
        [tops, lows, outliers], unit: matrix.columns, findsRepeats: false))
  }

  private static func shift(of codes: ArraySlice<Int32>) -> Int {
    let squares = codes.reduce(0.0) { $0 + Double($1) * Double($1) }
    let largest = codes.reduce(Int32(0)) { max($0, $1.magnitude > Int32.max ? 0 : abs($1)) }
    var deviation = (squares / Double(max(codes.count, 1))).squareRoot()
    var shift = 0
    while shift < maximumShift,
      deviation > targetDeviation || largest >> Int32(shift) > Int32(Int16.max) - 1
    {
      deviation /= 2
      shift += 1
    }
    return shift
  }

  /// Decodes a page to little-endian float32.
  ///
  /// - Parameters:
  ///   - page: The page's bytes.
  ///   - rows: Rows of the page.
  ///   - columns: Elements of a row.
  ///   - bytes: Receives `4 · rows · columns` bytes.
  /// - Throws: `lra.page` or `lra.deflate`.
  static func decode(
    _ page: [UInt8], rows: Int, columns: Int, into bytes: inout [UInt8]
  ) throws(SurgeryError) {
    guard page.count >= rows * rowSize else {
      throw SurgeryError.lra(
        "page", "a page is shorter than the steps of its rows",
        expected: "\(rows * rowSize) bytes", found: "\(page.count) bytes")
    }
    var steps: [Float] = []
    var shifts: [Int] = []
    for row in 0..<rows {
      let pattern = UInt16(page[row * rowSize]) | UInt16(page[row * rowSize + 1]) << 8
      let shift = Int(page[row * rowSize + 2])
      guard pattern < 0x7F80, shift <= (pattern == 0 ? 0 : maximumShift) else {
        throw SurgeryError.lra(
          "page", "a row of a quantised page has an impossible step or shift",
          found: "step \(pattern), shift \(shift)")
      }
      steps.append(FloatPatterns.widen(bf16: pattern))
      shifts.append(shift)
    }
    let planes = try CompactPlane.planes(of: page, from: rows * rowSize, count: 3)
    let coded = steps.count { $0 > 0 } * columns
    var tops = [UInt8](repeating: 0, count: coded)
    try tops.decode(planes[0], of: page)
    var lows = [UInt8](repeating: 0, count: shifts.count { $0 > 0 } * columns)
    try lows.decode(planes[1], of: page)
    var outliers = [UInt8](repeating: 0, count: 2 * escapes(in: tops))
    try outliers.decode(planes[2], of: page)
    var (top, low, outlier) = (0, 0, 0)
    for row in 0..<rows {
      if steps[row] == 0 {
        for index in (4 * row * columns)..<(4 * (row + 1) * columns) { bytes[index] = 0 }
        continue
      }
      dequantise(
        tops.span.extracting(top..<(top + columns)),
        lows: lows.span, at: low, outliers: outliers.span, from: &outlier, step: steps[row],
        shift: Int32(shifts[row]),
        into: &bytes, at: 4 * row * columns)
      top += columns
      if shifts[row] > 0 { low += columns }
    }
  }

  private static func escapes(in tops: [UInt8]) -> Int {
    var count = 0
    for top in tops { count &+= top == 0x80 ? 1 : 0 }
    return count
  }

  /// The hot loop: one row.
  private static func dequantise(
    _ tops: Span<UInt8>, lows: Span<UInt8>, at low: Int, outliers: Span<UInt8>,
    from outlier: inout Int, step: Float, shift: Int32, into bytes: inout [UInt8], at offset: Int
  ) {
    unsafe bytes.withUnsafeMutableBytes { target in
      if shift == 0 {
        for index in tops.indices {
          let value = Float(Int8(bitPattern: tops[index])) * step
          unsafe target.storeBytes(
            of: value.bitPattern.littleEndian, toByteOffset: offset &+ 4 &* index, as: UInt32.self)
        }
      } else {
        let unit = Int32(1) &<< shift
        for index in tops.indices {
          let code =
            Int32(Int8(bitPattern: tops[index])) &* unit | Int32(lows[low &+ index]) & (unit &- 1)
          unsafe target.storeBytes(
            of: (Float(code) * step).bitPattern.littleEndian, toByteOffset: offset &+ 4 &* index,
            as: UInt32.self)
        }
      }
      // Outliers are rare, so they are put right afterwards.
      if outlier == outliers.count { return }
      for index in tops.indices where tops[index] == 0x80 {
        let pattern = UInt16(outliers[outlier]) | UInt16(outliers[outlier &+ 1]) << 8
        outlier &+= 2
        let low = shift == 0 ? 0 : Int32(lows[low &+ index]) & ((1 &<< shift) &- 1)
        let code = Int32(Int16(bitPattern: pattern)) &<< shift | low
        unsafe target.storeBytes(
          of: (Float(code) * step).bitPattern.littleEndian, toByteOffset: offset &+ 4 &* index,
          as: UInt32.self)
      }
    }
  }
}

extension [UInt8] {
  /// Fills this array from a plane.
  fileprivate mutating func decode(
    _ plane: CompactPlane.Stored, of page: [UInt8]
  ) throws(SurgeryError) {
    try withMutableRawSpan(indices) { (target) throws(SurgeryError) in
      try CompactPlane.decode(plane, of: page, into: &target)
    }
  }
}
