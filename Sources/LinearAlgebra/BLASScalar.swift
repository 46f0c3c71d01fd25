internal import COpenBLAS
internal import CTensorKernels
public import Tensors

/// An element type that BLAS and LAPACK compute with: `Float` or `Double`.
///
/// No other type can conform, because only this module can make a ``BLASRoutines``.
public protocol BLASScalar: WorkingScalar {
  /// The routines for this type.
  static var routines: BLASRoutines<Self> { get }
}

/// The BLAS and LAPACK routines of one element type; opaque outside this module.
@safe
public struct BLASRoutines<Scalar: BLASScalar>: Sendable {
  typealias Pointer = UnsafePointer<Scalar>
  typealias MutablePointer = UnsafeMutablePointer<Scalar>

  /// Row-major `c = alpha · op(a) · op(b) + beta · c`, where `op` transposes if its flag is set.
  let multiply:
    @Sendable (
      _ transposeA: Bool, _ transposeB: Bool, _ m: Int, _ n: Int, _ k: Int, _ alpha: Scalar,
      _ a: Pointer, _ strideA: Int, _ b: Pointer, _ strideB: Int, _ beta: Scalar,
      _ c: MutablePointer, _ strideC: Int
    ) -> Void
  /// Adds the products of the columns of a row-major matrix of `k` rows and `n` columns to the upper triangle of `c`.
  let addGram: @Sendable (_ n: Int, _ k: Int, _ a: Pointer, _ c: MutablePointer) -> Void
  /// Column-major thin SVD, see `lora_sgesdd`.
  let singularValues:
    @Sendable (
      _ m: Int, _ n: Int, _ a: MutablePointer, _ s: MutablePointer, _ u: MutablePointer,
      _ vt: MutablePointer
    ) -> Int32
  /// A symmetric matrix brought to tridiagonal form, see `lora_ssytrd`.
  let tridiagonalise:
    @Sendable (
      _ n: Int, _ a: MutablePointer, _ d: MutablePointer, _ e: MutablePointer,
      _ tau: MutablePointer
    ) -> Int32
  /// The eigenvalues of a tridiagonal matrix, see `lora_ssterf`.
  let tridiagonalValues: @Sendable (_ n: Int, _ d: MutablePointer, _ e: MutablePointer) -> Int32
  /// The eigenvectors of a tridiagonal matrix as well, see `lora_sstedc`.
  let tridiagonalVectors:
    @Sendable (_ n: Int, _ d: MutablePointer, _ e: MutablePointer, _ z: MutablePointer) -> Int32
  /// Vectors taken back from tridiagonal form, see `lora_sormtr`.
  let restoreVectors:
    @Sendable (_ n: Int, _ k: Int, _ a: Pointer, _ tau: Pointer, _ z: MutablePointer) -> Int32
  /// Column-major QR in place, see `lora_sqr`.
  let orthonormalise:
    @Sendable (_ m: Int, _ n: Int, _ a: MutablePointer, _ r: MutablePointer) -> Int32
  /// Adds a product of packed factors to a block, see `lora_add_product_f32`.
  let addProduct:
    @Sendable (
      _ up: Pointer, _ rows: Int, _ panels: Pointer, _ rank: Int, _ first: Int, _ columns: Int,
      _ factor: Scalar, _ target: MutablePointer
    ) -> Void
  /// Adds a packed product to stored elements, see `lora_merge_bf16`; false where there is no such kernel for the dtype.
  let merge:
    @Sendable (
      _ dtype: DType, _ factors: PackedFactors<Scalar>, _ alpha: Double, _ rows: Range<Int>,
      _ source: UnsafeRawPointer, _ target: UnsafeMutableRawPointer,
      _ sums: UnsafeMutablePointer<lora_addition>
    ) -> Bool
  /// Kernels for products with few directions, where this CPU and this type have them.
  let thin: ThinKernels<Scalar>?
}

extension Float: BLASScalar {
  /// Single-precision routines.
  public static let routines = unsafe BLASRoutines<Float>(
    multiply: { ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc in
      unsafe lora_sgemm(
        ta ? 1 : 0, tb ? 1 : 0, Int32(m), Int32(n), Int32(k), alpha, a, Int32(lda), b, Int32(ldb),
        beta, c, Int32(ldc))
    },
    addGram: { n, k, a, c in unsafe lora_ssyrk(Int32(n), Int32(k), a, c) },
    singularValues: { m, n, a, s, u, vt in unsafe lora_sgesdd(Int32(m), Int32(n), a, s, u, vt) },
    tridiagonalise: { n, a, d, e, tau in unsafe lora_ssytrd(Int32(n), a, d, e, tau) },
    tridiagonalValues: { n, d, e in unsafe lora_ssterf(Int32(n), d, e) },
    tridiagonalVectors: { n, d, e, z in unsafe lora_sstedc(Int32(n), d, e, z) },
    restoreVectors: { n, k, a, tau, z in unsafe lora_sormtr(Int32(n), Int32(k), a, tau, z) },
    orthonormalise: { m, n, a, r in unsafe lora_sqr(Int32(m), Int32(n), a, r) },
    addProduct: { unsafe lora_add_product_f32($0, $1, $2, $3, $4, $5, $6, $7) },
    merge: { dtype, factors, alpha, rows, source, target, sums in
      guard let kernel = unsafe dtype.singlePrecisionMerge else { return false }
      var factors = unsafe lora_factors_f32(
        up: factors.up, panels: factors.panels, rank: factors.rank, columns: factors.columns,
        alpha: alpha)
      unsafe kernel(
        source.assumingMemoryBound(to: UInt16.self), &factors, rows.lowerBound, rows.count,
        target.assumingMemoryBound(to: UInt16.self), sums)
      return true
    },
    thin: lora_has_low_rank_kernels() == 0
      ? nil
      : unsafe ThinKernels(
        images: { unsafe lora_images_f32($0, $1, $2, $3, $4, $5) },
        addGram: { unsafe lora_add_gram_f32($0, $1, $2, $3, $4, $5) },
        squares: { unsafe lora_squares_f32($0, $1) }))
}

extension Double: BLASScalar {
  /// Double-precision routines.
  public static let routines = unsafe BLASRoutines<Double>(
    multiply: { ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc in
      unsafe lora_dgemm(
        ta ? 1 : 0, tb ? 1 : 0, Int32(m), Int32(n), Int32(k), alpha, a, Int32(lda), b, Int32(ldb),
        beta, c, Int32(ldc))
    },
    addGram: { n, k, a, c in unsafe lora_dsyrk(Int32(n), Int32(k), a, c) },
    singularValues: { m, n, a, s, u, vt in unsafe lora_dgesdd(Int32(m), Int32(n), a, s, u, vt) },
    tridiagonalise: { n, a, d, e, tau in unsafe lora_dsytrd(Int32(n), a, d, e, tau) },
    tridiagonalValues: { n, d, e in unsafe lora_dsterf(Int32(n), d, e) },
    tridiagonalVectors: { n, d, e, z in unsafe lora_dstedc(Int32(n), d, e, z) },
    restoreVectors: { n, k, a, tau, z in unsafe lora_dormtr(Int32(n), Int32(k), a, tau, z) },
    orthonormalise: { m, n, a, r in unsafe lora_dqr(Int32(m), Int32(n), a, r) },
    addProduct: { unsafe lora_add_product_f64($0, $1, $2, $3, $4, $5, $6, $7) },
    merge: { dtype, factors, alpha, rows, source, target, sums in
      guard dtype == .f32 else { return false }
      var factors = unsafe lora_factors_f64(
        up: factors.up, panels: factors.panels, rank: factors.rank, columns: factors.columns,
        alpha: alpha)
      unsafe lora_merge_f32(
        source.assumingMemoryBound(to: UInt32.self), &factors, rows.lowerBound, rows.count,
        target.assumingMemoryBound(to: UInt32.self), sums)
      return true
    },
    thin: nil)
}

extension DType {
  /// The kernel that merges into elements of this type in single precision.
  fileprivate var singlePrecisionMerge:
    (
      (
        UnsafePointer<UInt16>?, UnsafePointer<lora_factors_f32>?, Int, Int,
        UnsafeMutablePointer<UInt16>?, UnsafeMutablePointer<lora_addition>?
      ) -> Void
    )?
  {
    switch self {
    case .bf16: unsafe lora_merge_bf16
    case .f16: unsafe lora_merge_f16
    default: nil
    }
  }
}

/// Makes BLAS use one thread in the whole process, so that parallel work over tensors is ours alone.
///
/// Call it once at the start of a program; a library never does.
public func useSingleThreadedBLAS() {
  lora_single_thread()
}

/// The library that BLAS and LAPACK calls go to.
public enum BLASLibrary {
  /// Its name and version, as `OpenBLAS 0.3.21`.
  public static var version: String {
    unsafe String(cString: openblas_get_config()).split(separator: " ").prefix(2).joined(
      separator: " ")
  }

  /// The kernel that it chose for this processor, as `SkylakeX`.
  public static var kernel: String { unsafe String(cString: openblas_get_corename()) }
}
