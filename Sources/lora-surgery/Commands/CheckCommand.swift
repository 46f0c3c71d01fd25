import ArgumentParser
import LoRASurgery
import Tensors

struct CheckCommand: JobCommand {
  static let configuration = CommandConfiguration(
    commandName: "check",
    abstract: "Read everything, validate everything, list problems.",
    discussion: """
      The exit status is 1 where a problem was found, 65 where a file is malformed.

        lora-surgery check model/
        lora-surgery check *.safetensors
      """)

  @Argument(help: "Files and folders.", completion: .checkpoints)
  var paths: [String]

  @OptionGroup(title: "Means and messages") var common: CommonOptions

  func request() -> CheckRequest { CheckRequest(paths: paths) }

  func run() throws {
    let request = request()
    let report = try common.execute { (execution) throws(SurgeryError) in
      try request.run(execution)
    }
    try common.show(report, warnings: []) {
      report.files.flatMap { file in
        file.problems.map { problem in
          let tensor = problem.tensor.map { "tensor \"\(DisplayText.escaped($0.text))\": " } ?? ""
          return
            "\(DisplayText.escaped(file.path)): \(tensor)\(DisplayText.escaped(problem.what, limit: 400))"
        }
          + (file.problems.isEmpty
            ? [
              "\(DisplayText.escaped(file.path)): \(Quantities.counted(file.tensors, "tensor")), no problems"
            ]
            : [])
      }
    }
    if !report.isClean { throw ExitCode(1) }
  }
}
