import LinearAlgebra
import Tensors

/// The buffers of one worker, kept from block to block: fresh memory costs more than the work on it.
struct BlockBuffers<Scalar: BLASScalar> {
  var input: [UInt8] = []
  var output: [UInt8] = []
  var prediction: [UInt8] = []
  var delta = Matrix<Scalar>(rows: 0, columns: 0)
  fileprivate var before: [Scalar] = []
  fileprivate var exact: [Scalar] = []
  fileprivate var after: [Scalar] = []
}

/// Adds deltas to stored elements and rounds the sums to a storage dtype.
struct BlockRounding<Scalar: BLASScalar>: Sendable {
  let source: DType
  let target: DType
  let stochastic: StochasticRounding?

  /// Whether the kernels round as this does: once, to nearest, to the dtype of the source.
  var hasKernels: Bool { source == target && stochastic == nil }

  /// `output = input + delta`, by the kernel for the type where there is one.
  ///
  /// - Parameters:
  ///   - delta: What is added; a sum that the kernel rounds once.
  ///   - input: As many elements of the source dtype.
  ///   - output: Receives as many elements of the target dtype.
  ///   - start: Position in the tensor of the first element.
  ///   - buffers: Scratch.
  /// - Returns: What was added, and what became of it.
  func add(
    _ delta: [Scalar], to input: [UInt8], into output: inout MutableRawSpan, at start: Int,
    buffers: inout BlockBuffers<Scalar>
  ) -> AdditionSums {
    let count = delta.count
    if hasKernels,
      let sums = unsafe Scalar.add(delta.span, to: input.span.bytes, of: source, into: &output)
    {
      return sums
    }
    unsafe widen(input.span.bytes, source, count, into: &buffers.before)
    buffers.exact = buffers.before
    addElements(delta.span, to: &buffers.exact)
    return round(into: &output, at: start, buffers: &buffers)
  }

  /// Widens `input`, lets `change` do what it does, and rounds the result into `output`.
  func change(
    _ input: [UInt8], rows: Int, columns: Int, into output: inout MutableRawSpan, at start: Int,
    buffers: inout BlockBuffers<Scalar>,
    _ change: (inout Matrix<Scalar>) throws(SurgeryError) -> Void
  ) throws(SurgeryError) -> AdditionSums {
    unsafe widen(input.span.bytes, source, rows * columns, into: &buffers.before)
    var block = Matrix(rows: rows, columns: columns, elements: buffers.before)
    try change(&block)
    buffers.exact = block.elements
    return round(into: &output, at: start, buffers: &buffers)
  }

  /// Converts, with no regard to NaN and infinity.
  func convert(
    _ input: [UInt8], count: Int, into output: inout MutableRawSpan, at start: Int,
    buffers: inout BlockBuffers<Scalar>
  ) -> NarrowingLoss {
    unsafe widen(input.span.bytes, source, count, into: &buffers.exact)
    return narrow(&buffers.exact, into: &output, at: start)
  }

  private func round(
    into output: inout MutableRawSpan, at start: Int, buffers: inout BlockBuffers<Scalar>
  ) -> AdditionSums {
    let unrounded = buffers.exact
    let loss = narrow(&buffers.exact, into: &output, at: start)
    widen(output.bytes, target, unrounded.count, into: &buffers.after)
    var sums = ElementConversion.sums(
      before: buffers.before.span, exact: unrounded.span, after: buffers.after.span)
    sums.loss = loss
    return sums
  }

  /// Rounds elements to the target dtype; they are left as the chosen rounding makes them.
  private func narrow(
    _ elements: inout [Scalar], into output: inout MutableRawSpan, at start: Int
  ) -> NarrowingLoss {
    if let stochastic {
      for index in elements.indices {
        elements[index] = Scalar(
          stochastic.rounded(Double(elements[index]), element: start + index))
      }
    }
    return Scalar.narrow(elements.span, to: target, into: &output)
  }

  private func widen(
    _ bytes: RawSpan, _ dtype: DType, _ count: Int, into values: inout [Scalar]
  ) {
    if values.count != count { values = [Scalar](repeating: 0, count: count) }
    var span = values.mutableSpan
    Scalar.widen(bytes, from: dtype, into: &span)
  }
}

@specialized(where Scalar == Float)
@specialized(where Scalar == Double)
private func addElements<Scalar: BLASScalar>(
  _ delta: Span<Scalar>, to elements: inout [Scalar]
) {
  var span = elements.mutableSpan
  for index in delta.indices { span[index] += delta[index] }
}
