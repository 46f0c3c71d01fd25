import Tensors

/// A tensor enlarged with zeros at the end of its dimensions.
struct PaddedSource: TensorSource {
  private let base: any TensorSource
  private let inner: Shape
  private let outer: Shape
  private let elementSize: Int

  /// Wraps a source of elements of `elementSize` bytes; no dimension of `outer` is smaller than that of `inner`.
  init(_ base: any TensorSource, inner: Shape, outer: Shape, elementSize: Int) {
    self.base = base
    self.inner = inner
    self.outer = outer
    self.elementSize = elementSize
  }

  var file: InputFile { base.file }
  var plainOffset: UInt64? { nil }
  var isSequential: Bool { base.isSequential }

  func makeReader() throws(SurgeryError) -> any TensorReader {
    Reader(
      base: try base.makeReader(), inner: inner.dimensions, outer: outer.dimensions,
      elementSize: elementSize)
  }

  private struct Reader: TensorReader {
    var base: any TensorReader
    let inner: [Int]
    let outer: [Int]
    let elementSize: Int

    mutating func read(
      at offset: Int, into target: inout MutableRawSpan
    ) throws(SurgeryError) {
      let (end, width) = (offset + target.byteCount, (outer.last ?? 1) * elementSize)
      let stored = (inner.last ?? 1) * elementSize
      for position in 0..<target.byteCount {
        target.storeBytes(of: UInt8(0), toByteOffset: position, as: UInt8.self)
      }
      var row = width == 0 ? 0 : offset / width
      while width > 0, row * width < end {
        // The part of this run of the innermost dimension that is stored and asked for.
        let range = max(offset, row * width)..<min(end, row * width + stored)
        if let source = storedRow(row), range.lowerBound < range.upperBound {
          var part = target._mutatingExtracting(
            (range.lowerBound - offset)..<(range.upperBound - offset))
          try base.read(at: source * stored + range.lowerBound - row * width, into: &part)
        }
        row += 1
      }
    }

    /// The stored run of the innermost dimension at a place of the enlarged tensor.
    private func storedRow(_ row: Int) -> Int? {
      var (rest, result, factor) = (row, 0, 1)
      for (size, stored) in zip(outer, inner).dropLast().reversed() {
        let index = rest % size
        guard index < stored else { return nil }
        rest /= size
        result += index * factor
        factor *= stored
      }
      return result
    }
  }
}

extension StoredTensor {
  /// The tensor enlarged with zeros at the end of its dimensions.
  ///
  /// - Parameter dimensions: As many as the tensor's, none smaller.
  /// - Returns: The enlarged tensor, or `nil` where the dimensions are others.
  public func padded(to dimensions: [Int]) -> StoredTensor? {
    let own = self.info.shape.dimensions
    guard dimensions.count == own.count, zip(dimensions, own).allSatisfy({ $0 >= $1 }),
      let size = self.info.dtype.bytesPerElement, let shape = Shape(dimensions),
      let info = TensorInfo(name: name, dtype: self.info.dtype, shape: shape)
    else { return nil }
    return StoredTensor(
      info: info,
      source: PaddedSource(source, inner: self.info.shape, outer: shape, elementSize: size))
  }
}
