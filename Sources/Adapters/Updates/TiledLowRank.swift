import Checkpoints
public import LinearAlgebra
public import Tensors

/// Low-rank changes of rectangles of the weight, which may overlap: GraLoRA and block-diagonal LoRA.
///
/// Jung et al. 2025, arXiv:2505.20355 (peft:src/peft/tuners/gralora/layer.py); block-diagonal factors:
/// peft:src/peft/tuners/lora/variants.py, `BlockDiagonalLinear`.
public struct TiledLowRank: Update {
  /// A rectangle and its change.
  public struct Tile: Sendable {
    /// Its rows in the `out x in` matrix.
    public var rows: Range<Int>
    /// Its columns.
    public var columns: Range<Int>
    /// The change of it.
    public var update: LowRank
  }

  /// The family's name in reports.
  public let algorithm: String
  /// The rectangles.
  public var tiles: [Tile]
  /// Outputs.
  public let rows: Int
  /// Inputs.
  public let columns: Int
  /// The rank of the factors as they are stored.
  public let rank: Int?

  /// Describes changes of rectangles.
  ///
  /// - Parameters:
  ///   - algorithm: The family's name in reports.
  ///   - tiles: The rectangles, within `rows` and `columns`.
  ///   - rows: Outputs.
  ///   - columns: Inputs.
  ///   - rank: The rank of the factors as they are stored.
  public init(algorithm: String, tiles: [Tile], rows: Int, columns: Int, rank: Int) {
    self.algorithm = algorithm
    self.tiles = tiles
    self.rows = rows
    self.columns = columns
    self.rank = rank
  }

  /// The factors of all rectangles, each stored tensor once.
  public var factors: [Factor] {
    var seen = Set<TensorName>()
    return tiles.flatMap(\.update.factors).filter { seen.insert($0.tensor.name).inserted }.map {
      Factor($0.tensor)
    }
  }

  /// Reads the factors.
  public func loaded<Scalar: BLASScalar>(
    scale: Double, as scalar: Scalar.Type
  ) throws(SurgeryError) -> any LoadedUpdate<Scalar> {
    var loaded: [LoadedTiles<Scalar>.Tile] = []
    for tile in tiles {
      loaded.append(
        .init(
          rows: tile.rows, columns: tile.columns,
          factors: try tile.update.loadedFactors(scale: scale, as: Scalar.self)))
    }
    return LoadedTiles(tiles: loaded)
  }
}

/// Changes of rectangles in memory.
struct LoadedTiles<Scalar: BLASScalar>: AdditiveUpdate {
  struct Tile: Sendable {
    let rows: Range<Int>
    let columns: Range<Int>
    let factors: LoadedLowRank<Scalar>
  }

  let tiles: [Tile]

  func change(rows: Range<Int>, columns: Range<Int>) -> Matrix<Scalar> {
    var result = Matrix<Scalar>(rows: rows.count, columns: columns.count)
    for tile in tiles {
      let (height, width) = (rows.clamped(to: tile.rows), columns.clamped(to: tile.columns))
      if height.isEmpty || width.isEmpty { continue }
      let own = tile.factors.change(
        rows: height.shifted(by: -tile.rows.lowerBound),
        columns: width.shifted(by: -tile.columns.lowerBound))
      result.add(
        own, atRow: height.lowerBound - rows.lowerBound,
        column: width.lowerBound - columns.lowerBound)
    }
    return result
  }
}

extension Range<Int> {
  fileprivate func shifted(by offset: Int) -> Range<Int> {
    (lowerBound + offset)..<(upperBound + offset)
  }
}

extension Matrix {
  fileprivate mutating func add(_ part: Matrix, atRow row: Int, column: Int) {
    for i in 0..<part.rows {
      for j in 0..<part.columns { self[row + i, column + j] += part[i, j] }
    }
  }
}
