import Tensors

/// Reads a strided view slab by slab.
struct SlabReader: TensorReader {
  /// Bytes that one read of the base may take.
  private static let windowSize = 1 << 20
  /// Runs closer than this are read together: a system call costs as much as copying the gap.
  private static let smallGap = 4096
  /// The first slab; each that continues where the last one ended is twice as large, since fewer passes read longer runs.
  private static let smallestSlab = 1 << 20
  private static let largestSlab = 16 << 20
  /// Every slab of a compressed base costs a pass over all of it, so these are larger.
  private static let sequentialSlab = 64 << 20

  /// A dimension of the box of elements that makes up a slab.
  private struct Side {
    var count: Int
    /// Distance in the base in bytes.
    var stride: Int
    /// Distance in the slab in bytes.
    var step: Int
  }

  private var base: any TensorReader
  private let layout: StridedLayout
  private let isSequential: Bool
  /// Elements of the view behind one index of each dimension.
  private let inner: [Int]
  /// The dimension along which slabs are cut, with all dimensions behind it whole.
  private let cut: Int
  private var slabSize = Self.smallestSlab
  private var slab: [UInt8] = []
  private var slabStart = 0
  private var slabCount = 0
  private var window: [UInt8] = []
  private var windowStart = 0
  private var windowCount = 0

  init(base: any TensorReader, layout: StridedLayout, isSequential: Bool) {
    self.base = base
    self.layout = layout
    self.isSequential = isSequential
    var inner: [Int] = []
    var product = 1
    for dimension in layout.dimensions.reversed() {
      inner.append(product)
      product *= dimension.count
    }
    self.inner = inner.reversed()
    let size = isSequential ? Self.sequentialSlab : Self.largestSlab
    cut = self.inner.firstIndex { $0 <= size / layout.elementSize } ?? inner.count - 1
  }

  mutating func read(at offset: Int, into target: inout MutableRawSpan) throws(SurgeryError) {
    var done = 0
    while done < target.byteCount {
      let position = offset + done
      if position < slabStart || position >= slabStart + slabCount {
        try gather(from: position / layout.elementSize, wanted: target.byteCount - done)
      }
      let count = min(slabStart + slabCount - position, target.byteCount - done)
      let from = position - slabStart
      var part = target._mutatingExtracting(done..<done + count)
      unsafe slab.withUnsafeBytes { source in
        unsafe part.withUnsafeMutableBytes {
          unsafe $0.copyMemory(from: .init(rebasing: source[from..<from + count]))
        }
      }
      done += count
    }
  }

  /// Fills the slab from the row of the cut dimension that holds `element`.
  private mutating func gather(from element: Int, wanted: Int) throws(SurgeryError) {
    let size = layout.elementSize
    let rowSize = inner[cut] * size
    var row = element / inner[cut]
    let isContinued = slabCount > 0 && row * rowSize == slabStart + slabCount
    slabSize = isContinued ? min(2 * slabSize, Self.largestSlab) : Self.smallestSlab
    slabStart = row * rowSize
    let first = row % layout.dimensions[cut].count
    let bytes =
      isSequential ? Self.sequentialSlab : min(max(wanted, slabSize), Self.largestSlab)
    let rows = min(
      max((bytes + rowSize - 1) / rowSize, 1), layout.dimensions[cut].count - first)
    var start = layout.offset
    for index in stride(from: cut, through: 0, by: -1) {
      start += row % layout.dimensions[index].count * layout.dimensions[index].stride
      row /= layout.dimensions[index].count
    }
    var sides = [
      Side(count: rows, stride: layout.dimensions[cut].stride * size, step: rowSize)
    ]
    for index in layout.dimensions.indices.dropFirst(cut + 1) {
      let dimension = layout.dimensions[index]
      sides.append(
        Side(count: dimension.count, stride: dimension.stride * size, step: inner[index] * size))
    }
    slabCount = rows * rowSize
    if slab.count < slabCount { slab = [UInt8](repeating: 0, count: slabCount) }
    do throws(SurgeryError) {
      try gather(sides.sorted { $0.stride > $1.stride }, from: start * size)
    } catch {
      slabCount = 0
      throw error
    }
  }

  /// Visits a box of the base by ascending position, the nearest elements innermost.
  private mutating func gather(_ sides: [Side], from start: Int) throws(SurgeryError) {
    guard let run = sides.last else { return }
    let outer = sides.dropLast()
    let size = layout.elementSize
    let span = (run.count - 1) * run.stride + size
    let isDense = isSequential || (outer.last.map { $0.stride - span } ?? 0) <= Self.smallGap
    let end = sides.reduce(start + size) { $0 + ($1.count - 1) * $1.stride }
    let piece = run.stride == 0 ? run.count : max(Self.windowSize / run.stride, 1)
    var indices = [Int](repeating: 0, count: outer.count)
    var source = start
    var target = 0
    while true {
      for first in stride(from: 0, to: run.count, by: piece) {
        let count = min(piece, run.count - first)
        let position = source + first * run.stride
        let needed = (count - 1) * run.stride + size
        try load(position, needed, ahead: isDense ? min(Self.windowSize, end - position) : needed)
        scatter(
          count, from: position - windowStart, by: run.stride, to: target + first * run.step,
          by: run.step)
      }
      var side = outer.count - 1
      while side >= 0 {
        indices[side] += 1
        source += outer[side].stride
        target += outer[side].step
        if indices[side] < outer[side].count { break }
        source -= outer[side].stride * outer[side].count
        target -= outer[side].step * outer[side].count
        indices[side] = 0
        side -= 1
      }
      if side < 0 { return }
    }
  }

  /// Makes the window hold `count` bytes of the base from `position`, and up to `ahead` where it must be read.
  private mutating func load(
    _ position: Int, _ count: Int, ahead: Int
  ) throws(SurgeryError) {
    if position >= windowStart, position + count <= windowStart + windowCount { return }
    windowCount = 0
    let size = max(count, ahead)
    if window.count < size { window = [UInt8](repeating: 0, count: size) }
    var base = base
    try window.withMutableRawSpan(0..<size) { (target) throws(SurgeryError) in
      try base.read(at: position, into: &target)
    }
    self.base = base
    windowStart = position
    windowCount = size
  }

  private mutating func scatter(
    _ count: Int, from source: Int, by sourceStep: Int, to target: Int, by targetStep: Int
  ) {
    let size = layout.elementSize
    unsafe window.withUnsafeBytes { window in
      unsafe slab.withUnsafeMutableBytes { slab in
        switch size {
        case 1:
          unsafe Self.scatter(
            UInt8.self, count, window, source, sourceStep, slab, target, targetStep)
        case 2:
          unsafe Self.scatter(
            UInt16.self, count, window, source, sourceStep, slab, target, targetStep)
        case 4:
          unsafe Self.scatter(
            UInt32.self, count, window, source, sourceStep, slab, target, targetStep)
        default:
          unsafe Self.scatter(
            UInt64.self, count, window, source, sourceStep, slab, target, targetStep)
        }
      }
    }
  }

  private static func scatter<Element: FixedWidthInteger>(
    _: Element.Type, _ count: Int, _ window: UnsafeRawBufferPointer, _ source: Int,
    _ sourceStep: Int, _ slab: UnsafeMutableRawBufferPointer, _ target: Int, _ targetStep: Int
  ) {
    var (from, to) = (source, target)
    for _ in 0..<count {
      unsafe slab.storeBytes(
        of: window.loadUnaligned(fromByteOffset: from, as: Element.self), toByteOffset: to,
        as: Element.self)
      from += sourceStep
      to += targetStep
    }
  }
}
