import Checkpoints
import Foundation
import LoRASurgery
import Tensors
import Testing

/// Records that were damaged, or written by somebody else: the base comes back bit for bit or not at all.
struct UndoDamageTests {
  private let pair: Pair
  private let record: [UInt8]
  private let restoring: MergeRequest

  init() throws {
    pair = try Pair(.bf16, shapes: [[7, 5], [40, 30]], delta: 0.05, seed: 31)
    var request = pair.request()
    request.undo = pair.undo
    _ = try request.run(Execution(jobs: 1))
    var back = pair.request(.unmerge)
    back.undo = pair.undo
    restoring = back
    record = Array(try Data(contentsOf: URL(fileURLWithPath: pair.undo)))
  }

  /// What restoring with other bytes of the record throws.
  private func refusal(_ bytes: [UInt8]) throws -> SurgeryError? {
    try Data(bytes).write(to: URL(fileURLWithPath: pair.undo))
    var request = restoring
    request.force = true
    let error = surgeryError { _ = try request.run(Execution(jobs: 1)) }
    #expect(!FileManager.default.fileExists(atPath: pair.back) || error == nil)
    return error
  }

  @Test func aByteThatChangedIsFound() throws {
    for index in stride(from: 0, to: record.count, by: max(1, record.count / 150)) {
      var bytes = record
      bytes[index] ^= 0x55
      let error = try #require(try refusal(bytes), "byte \(index) changed nothing")
      #expect(error.file != nil && error.id.hasPrefix("undo."), "byte \(index): \(error)")
      #expect(error.kind == .data || error.kind == .unsupported)
    }
  }

  @Test func aRecordCutAnywhereIsFound() throws {
    for count in stride(from: 0, to: record.count, by: max(1, record.count / 60)) {
      let error = try #require(try refusal(Array(record[..<count])))
      #expect(error.file == pair.undo && error.id.hasPrefix("undo."), "\(count) bytes: \(error)")
    }
  }

  /// The directory with one text in place of another, its checksum made to agree.
  private func directory(_ old: String, _ new: String) throws -> [UInt8] {
    let trailer = record.suffix(24)
    let position = trailer.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
    let text = String(decoding: record[position..<(record.count - 24)], as: UTF8.self)
    let range = try #require(text.firstRange(of: old), "\(old)")
    let changed = Array(text.replacingCharacters(in: range, with: new).utf8)
    func littleEndian(_ value: Int, _ count: Int) -> [UInt8] {
      (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }
    let parts: [[UInt8]] = [
      Array(record[..<position]), changed, littleEndian(position, 8),
      littleEndian(changed.count, 8),
      littleEndian(Int(PageCompression.checksum(changed.span.bytes)), 4), Array(trailer.suffix(4)),
    ]
    return parts.flatMap { $0 }
  }

  @Test(arguments: [
    (#""tensors":"#, #""tensor":"#), (#""dtype":"BF16""#, #""dtype":"BF17""#),
    (#""shape":[7,5]"#, #""shape":[7,-5]"#), (#""shape":[7,5]"#, #""shape":[7,"5"]"#),
    (#""stored_rows":7"#, #""stored_rows":0"#), (#""stored_rows":7"#, #""stored_rows":6"#),
    (#""elements_per_page":"#, #""elements_per_page":-"#),
    (#""pages":["#, #""pages":[7,"#), (#""pages":["#, #""pages":[-"#),
    (#""updates":["#, #""updates":[7,"#), (#""merged_dtype":"BF16""#, #""merged_dtype":"F32""#),
    (#""merged_shape":[7,5]"#, #""merged_shape":[5,7]"#), (#""added":[]"#, #""added":[7]"#),
    // Elements of half a byte, as which no merge records any.
    (
      #""dtype":"BF16","shape":[40,30],"merged_dtype":"BF16","merged_shape":[40,30],"#
        + #""prediction":"subtract""#,
      #""dtype":"F4","shape":[40,30],"merged_dtype":"BF16","merged_shape":[40,30],"#
        + #""prediction":"nothing""#
    ),
  ])
  func aDirectoryThatMakesNoSense(_ old: String, _ new: String) throws {
    let error = try #require(try refusal(try directory(old, new)))
    #expect(error.id == "undo.damaged" && error.kind == .data, "\(error)")
    #expect(error.file == pair.undo, "\(error)")
  }

  /// Pages that lie elsewhere are not those of the base, wherever that is.
  @Test(arguments: ["1", "999999999", "9223372036854775807"])
  func pagesThatLieElsewhere(_ position: String) throws {
    let text = String(decoding: record, as: UTF8.self)
    let pages = try #require(text.firstMatch(of: /"pages":\[([0-9]+)/))
    let error = try #require(
      try refusal(try directory(String(pages.0), #""pages":[\#(position)"#)))
    #expect(error.id.hasPrefix("undo.") && error.kind == .data, "\(error)")
    #expect(error.file != nil)
  }
}
