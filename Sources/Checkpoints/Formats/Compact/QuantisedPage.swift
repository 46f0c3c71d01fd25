import Tensors

/// A page of a quantised tensor: whole rows, whose columns are sorted into classes of like magnitude.
///
/// For each row three bytes, its step (bfloat16, little-endian) and its shift; then four planes. The first has the class of
/// each column; a column of class 0 holds zeros, and nothing else is stored of it. The others follow class by class, row by
/// row, column by column, for the rows whose step is not zero. A code is `top · 2^shift + low`. The second plane has a byte
/// for each top; -128 stands for the next number of the fourth plane (16 bits, signed, little-endian). The third has `shift`
/// bits for each low, lowest bit first, every run of one class and row from a new byte on.
///
/// Tops are entropy coded. Lows are noise, which a prefix code of a few symbols could only make longer. Classes pay where
/// columns differ much, as tokens of an embedding do.
enum QuantisedPage {
  /// Bytes in front of the planes for each row.
  static let rowSize = 3
  /// Planes of a page.
  static let planeCount = 4
  /// The greatest shift.
  static let maximumShift = 7
  /// The greatest class.
  static let maximumClass = 15
  /// The class of every column where columns are not told apart.
  static let commonClass = 1

  /// Rows of one page.
  static func rowsPerPage(columns: Int) -> Int {
    max(1, CompactFormat.elementsPerPage / max(columns, 1))
  }

  /// The most bytes of a page: every code an outlier with the longest low.
  static func maximumSize(rows: Int, columns: Int) -> Int {
    rows * (rowSize + columns * 4 + maximumClass) + columns + planeCount * CompactPlane.wordSize
  }

  /// Bytes of the lows of a run.
  static func lowBytes(count: Int, shift: Int) -> Int { (count * shift + 7) / 8 }

  /// The columns of each class, ascending.
  static func columns(by classes: [UInt8]) -> [[Int]] {
    var columns = [[Int]](repeating: [], count: maximumClass + 1)
    for (column, number) in classes.enumerated() { columns[Int(number)].append(column) }
    return columns
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
    let entries = try self.rows(of: page, count: rows)
    let planes = try CompactPlane.planes(of: page, from: rows * rowSize, count: planeCount)
    var classes = [UInt8](repeating: 0, count: columns)
    try classes.decode(planes[0], of: page)
    guard classes.allSatisfy({ $0 <= maximumClass }) else {
      throw SurgeryError.lra("page", "a column has an impossible class")
    }
    let isCommon = classes.allSatisfy { $0 == commonClass }
    let runs = isCommon ? [Array(0..<columns)] : Array(Self.columns(by: classes).dropFirst())
    let coded = entries.filter { $0.step > 0 }
    var tops = [UInt8](
      repeating: 0, count: coded.count * runs.reduce(0) { $0 + $1.count })
    try tops.decode(planes[1], of: page)
    let lowSize = runs.reduce(0) { sum, run in
      coded.reduce(sum) { $0 + lowBytes(count: run.count, shift: $1.shift) }
    }
    var lows = [UInt8](repeating: 0, count: lowSize)
    try lows.decode(planes[2], of: page)
    // A low is taken from two bytes at once, and one of no bits from where the next would begin.
    lows += [0, 0]
    var outliers = [UInt8](repeating: 0, count: 2 * tops.count { $0 == 0x80 })
    try outliers.decode(planes[3], of: page)
    let runPlanes = RunPlanes(tops: tops, lows: lows, outliers: outliers)
    var (place, scratch) = (RunPlanes.Place(), [UInt8]())
    if !isCommon || coded.count < rows { bytes.clear() }
    for run in runs where !run.isEmpty {
      for (row, entry) in entries.enumerated() where entry.step > 0 {
        if isCommon {
          runPlanes.read(columns, entry, from: &place, into: &bytes, at: 4 * row * columns)
        } else {
          runPlanes.read(
            run, entry, from: &place, into: &bytes, at: 4 * row * columns, scratch: &scratch)
        }
      }
    }
  }

  /// Step and shift of a row.
  struct Row {
    var step: Float
    var shift: Int
  }

  private static func rows(of page: [UInt8], count: Int) throws(SurgeryError) -> [Row] {
    guard page.count >= count * rowSize else {
      throw SurgeryError.lra(
        "page", "a page is shorter than the steps of its rows",
        expected: "\(count * rowSize, counting: "byte")", found: "\(page.count, counting: "byte")")
    }
    var rows: [Row] = []
    for row in 0..<count {
      let pattern = UInt16(page[row * rowSize]) | UInt16(page[row * rowSize + 1]) << 8
      let shift = Int(page[row * rowSize + 2])
      guard pattern < 0x7F80, shift <= (pattern == 0 ? 0 : maximumShift) else {
        throw SurgeryError.lra(
          "page", "a row of a quantised page has an impossible step or shift",
          found: "step \(pattern), shift \(shift)")
      }
      rows.append(Row(step: FloatPatterns.widen(bf16: pattern), shift: shift))
    }
    return rows
  }
}

/// The planes of a page, of which runs are read one after the other.
private struct RunPlanes {
  /// Where the next run begins in each plane.
  struct Place {
    var top = 0
    var low = 0
    var outlier = 0
  }

  let tops: [UInt8]
  let lows: [UInt8]
  let outliers: [UInt8]

  /// Reads a run and puts each element into its column.
  func read(
    _ run: [Int], _ row: QuantisedPage.Row, from place: inout Place, into bytes: inout [UInt8],
    at offset: Int, scratch: inout [UInt8]
  ) {
    if scratch.count < 4 * run.count { scratch = [UInt8](repeating: 0, count: 4 * run.count) }
    read(run.count, row, from: &place, into: &scratch, at: 0)
    unsafe bytes.withUnsafeMutableBytes { target in
      unsafe scratch.withUnsafeBytes { source in
        for index in run.indices {
          unsafe target.storeBytes(
            of: source.loadUnaligned(fromByteOffset: 4 &* index, as: UInt32.self),
            toByteOffset: offset &+ 4 &* run[index], as: UInt32.self)
        }
      }
    }
  }

  /// Reads a run into neighbouring elements: the hot loop.
  func read(
    _ count: Int, _ row: QuantisedPage.Row, from place: inout Place, into bytes: inout [UInt8],
    at offset: Int
  ) {
    let tops = tops.span.extracting(place.top..<(place.top + count))
    let (step, shift, start) = (row.step, Int32(row.shift), place.low)
    unsafe bytes.withUnsafeMutableBytes { target in
      if shift == 0 {
        for index in tops.indices {
          let value = Float(Int8(bitPattern: tops[index])) * step
          unsafe target.storeBytes(
            of: value.bitPattern.littleEndian, toByteOffset: offset &+ 4 &* index, as: UInt32.self)
        }
      } else {
        for index in tops.indices {
          let code =
            Int32(Int8(bitPattern: tops[index])) &<< shift | low(index, from: start, shift)
          unsafe target.storeBytes(
            of: (Float(code) * step).bitPattern.littleEndian, toByteOffset: offset &+ 4 &* index,
            as: UInt32.self)
        }
      }
      // Outliers are rare, so they are put right afterwards.
      if place.outlier == outliers.count { return }
      for index in tops.indices where tops[index] == 0x80 {
        let pattern = UInt16(outliers[place.outlier]) | UInt16(outliers[place.outlier &+ 1]) << 8
        place.outlier &+= 2
        let code = Int32(Int16(bitPattern: pattern)) &<< shift | low(index, from: start, shift)
        unsafe target.storeBytes(
          of: (Float(code) * step).bitPattern.littleEndian, toByteOffset: offset &+ 4 &* index,
          as: UInt32.self)
      }
    }
    place.top += count
    place.low += QuantisedPage.lowBytes(count: count, shift: row.shift)
  }

  /// The low of an element of the run that begins at `start`.
  @inline(__always)
  private func low(_ index: Int, from start: Int, _ shift: Int32) -> Int32 {
    let bit = index &* Int(shift)
    let place = start &+ bit &>> 3
    let lows = lows.span
    let pair = Int32(lows[place]) | Int32(lows[place &+ 1]) &<< 8
    return pair &>> Int32(bit & 7) & (1 &<< shift &- 1)
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

  fileprivate mutating func clear() {
    for index in indices { self[index] = 0 }
  }
}
