import Tensors

/// A view into another source: elements at regular distances, delivered in row-major order.
///
/// Transposed, Fortran-ordered, sliced and expanded tensors are all of this kind. Reading gathers slabs of consecutive rows
/// of the view into a bounded buffer; within a slab the base is visited by ascending position, in large reads where the runs
/// lie close together and in one read a run where they do not.
struct StridedSource: TensorSource {
  private let base: any TensorSource
  private let layout: StridedLayout

  /// Wraps a source; every element of the view lies inside it, as the caller has checked.
  init(_ base: any TensorSource, layout: StridedLayout) {
    self.base = base
    self.layout = layout
  }

  var file: InputFile { base.file }

  var plainOffset: UInt64? {
    guard layout.isContiguous, let start = base.plainOffset else { return nil }
    return start + UInt64(layout.offset * layout.elementSize)
  }

  var isSequential: Bool { base.isSequential }

  func makeReader() throws(SurgeryError) -> any TensorReader {
    let reader = try base.makeReader()
    return layout.isContiguous
      ? ContiguousReader(base: reader, start: layout.offset * layout.elementSize)
      : SlabReader(base: reader, layout: layout, isSequential: base.isSequential)
  }

  private struct ContiguousReader: TensorReader {
    var base: any TensorReader
    let start: Int

    mutating func read(
      at offset: Int, into target: inout MutableRawSpan
    ) throws(SurgeryError) {
      try base.read(at: start + offset, into: &target)
    }
  }
}

extension StoredTensor {
  /// One of the parts that the first dimension counts, such as a matrix of a stack; `nil` where there is none of this number,
  /// or where an element is no whole number of bytes.
  ///
  /// - Parameter index: The position in the first dimension.
  /// - Returns: A tensor with the other dimensions, of which no more is read than it holds.
  public func part(_ index: Int) -> Self? {
    let dimensions = info.shape.dimensions
    guard let count = dimensions.first, (0..<count).contains(index),
      let size = info.dtype.bytesPerElement, let shape = Shape(Array(dimensions.dropFirst())),
      let part = TensorInfo(name: info.name, dtype: info.dtype, shape: shape)
    else { return nil }
    let layout = StridedLayout(
      counts: [shape.elementCount], strides: [1], offset: index * shape.elementCount,
      elementSize: size)
    return Self(info: part, source: StridedSource(source, layout: layout))
  }

  /// The transpose of a matrix, gathered as it is read; `nil` where the tensor is no matrix of whole bytes.
  public var transposed: Self? {
    let dimensions = info.shape.dimensions
    guard dimensions.count == 2, let size = info.dtype.bytesPerElement,
      let shape = Shape(dimensions.reversed()),
      let turned = TensorInfo(name: info.name, dtype: info.dtype, shape: shape)
    else { return nil }
    guard turned.byteCount > 0 else { return Self(info: turned, source: source) }
    let layout = StridedLayout(fortranOrder: shape, elementSize: size)
    return Self(info: turned, source: StridedSource(source, layout: layout))
  }
}

/// Where the elements of a view lie in its base, in elements.
struct StridedLayout: Sendable {
  struct Dimension: Sendable {
    var count: Int
    var stride: Int
  }

  /// Dimensions outermost first, without those of one element, neighbours joined where they lie like one.
  let dimensions: [Dimension]
  /// Position of the first element.
  let offset: Int
  /// Bytes of an element.
  let elementSize: Int

  /// Describes a view with at least one element; strides are not negative.
  init(counts: [Int], strides: [Int], offset: Int, elementSize: Int) {
    var joined: [Dimension] = []
    for (count, stride) in zip(counts, strides) where count != 1 {
      if let last = joined.last, last.stride == stride * count {
        joined[joined.count - 1] = Dimension(count: last.count * count, stride: stride)
      } else {
        joined.append(Dimension(count: count, stride: stride))
      }
    }
    dimensions = joined
    self.offset = offset
    self.elementSize = elementSize
  }

  /// The layout of Fortran order: the first dimension is the innermost.
  init(fortranOrder shape: Shape, elementSize: Int) {
    var strides: [Int] = []
    var stride = 1
    for count in shape.dimensions {
      strides.append(stride)
      stride *= count
    }
    self.init(counts: shape.dimensions, strides: strides, offset: 0, elementSize: elementSize)
  }

  /// Whether the elements lie one after the other.
  var isContiguous: Bool {
    dimensions.isEmpty || dimensions.count == 1 && dimensions[0].stride == 1
  }

  /// Whether some element may be visited twice, as in expanded tensors and sliding windows.
  var mayOverlap: Bool {
    var extent = 1
    for dimension in dimensions.sorted(by: { $0.stride < $1.stride }) {
      if dimension.stride < extent { return true }
      extent = dimension.stride * dimension.count
    }
    return false
  }
}
