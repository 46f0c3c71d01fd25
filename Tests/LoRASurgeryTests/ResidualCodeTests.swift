import Tensors
import Testing

@testable import LoRASurgery

/// Pages of an undo record that pass every checksum and still are none: written by somebody else.
struct ResidualCodeTests {
  /// Two elements of 16 bits, predicted as zeros.
  private static let prediction = [UInt8](repeating: 0, count: 4)

  @Test func whatIsSpecifiedIsRead() throws {
    func decoded(_ code: [UInt8]) throws -> [UInt8] {
      try ResidualCode.decoded(code, predicted: Self.prediction, count: 4, size: 2)
    }
    // Bytes as they are, low halves first.
    #expect(try decoded([0, 1, 2, 3, 4]) == [1, 3, 2, 4])
    // No difference; then one unit up for the second element: its digit is worth 3.
    #expect(try decoded([1, 0]) == Self.prediction)
    #expect(try decoded([1, 3]) == [0, 0, 1, 0])
    // The same as a distance and a zigzag value, and as planes.
    #expect(try decoded([1, 0, 2, 2]) == [0, 0, 1, 0])
    #expect(try decoded([2, 0, 2, 0, 0]) == [0, 0, 1, 0])
  }

  @Test(
    arguments: [
      [], [0], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5], [3, 0], [2, 1, 2, 3], [1],
      // A number without an end, beyond 64 bits, beyond the element's.
      [1, 0, 0x80], [1, 0] + [UInt8](repeating: 0xFF, count: 9) + [2],
      [1, 0] + [UInt8](repeating: 0x80, count: 9) + [0x81, 0], [1, 0, 1, 0xFF, 0xFF, 0x7F],
      // Distances that lead nowhere, or out of the page.
      [1, 0, 0, 2], [1, 0, 3, 2], [1, 0, 2, 2, 1, 2],
    ] as [[UInt8]])
  func whatIsNotIsRefused(_ code: [UInt8]) {
    let error = surgeryError {
      _ = try ResidualCode.decoded(code, predicted: Self.prediction, count: 4, size: 2)
    }
    #expect(error?.id == "undo.damaged")
  }

  @Test func aDifferenceNeedsAPrediction() {
    for prediction in [nil, [0, 0]] as [[UInt8]?] {
      let error = surgeryError {
        _ = try ResidualCode.decoded([1, 0], predicted: prediction, count: 4, size: 2)
      }
      #expect(error?.id == "undo.damaged")
    }
  }
}
