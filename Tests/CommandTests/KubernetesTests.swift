import Foundation
import Testing

/// The manifest that the README names: its form is that of `batch/v1`, and its words do what the README says.
struct KubernetesTests {
  private struct Job: Decodable {
    struct Metadata: Decodable { var name: String }
    struct Spec: Decodable {
      var completionMode: String
      var completions: Int
      var parallelism: Int
      var template: Template
    }
    struct Template: Decodable { var spec: PodSpec }
    struct PodSpec: Decodable {
      var restartPolicy: String
      var containers: [Container]
      var volumes: [Volume]
    }
    struct Container: Decodable {
      var name: String
      var image: String
      var command: [String]
      var args: [String]
      var volumeMounts: [Mount]
    }
    struct Mount: Decodable {
      var name: String
      var mountPath: String
    }
    struct Volume: Decodable { var name: String }
    var apiVersion: String
    var kind: String
    var metadata: Metadata
    var spec: Spec
  }

  private func job() throws -> Job {
    try JSONDecoder().decode(
      Job.self,
      from: Data(
        contentsOf: URL(fileURLWithPath: Command.fixture("cluster/merge-job.json"))))
  }

  @Test func theManifestIsAnIndexedJob() throws {
    let job = try job()
    #expect(job.apiVersion == "batch/v1" && job.kind == "Job")
    #expect(job.metadata.name.wholeMatch(of: /[a-z0-9]([-a-z0-9]*[a-z0-9])?/) != nil)
    #expect(job.spec.completionMode == "Indexed")
    #expect((1...job.spec.completions).contains(job.spec.parallelism))
    let pod = job.spec.template.spec
    #expect(["Never", "OnFailure"].contains(pod.restartPolicy))
    let container = try #require(pod.containers.first)
    #expect(container.command == ["lora-surgery"])
    #expect(Set(container.volumeMounts.map(\.name)) == Set(pod.volumes.map(\.name)))
    let parts = try #require(container.args.firstIndex(of: "--parts"))
    #expect(container.args[parts + 1] == "\(job.spec.completions)")
    let mounts = container.volumeMounts.map(\.mountPath)
    #expect(
      container.args.filter { $0.hasPrefix("/") }.allSatisfy { path in
        mounts.contains { path.hasPrefix($0 + "/") }
      })
  }

  @Test func itsPodsMakeTheResult() throws {
    let folder = try TemporaryFolder()
    let (base, tuned) = (Command.fixture("demo/base"), Command.fixture("demo/tuned"))
    try FileManager.default.copyItem(atPath: base, toPath: folder("base"))
    _ = try Command(
      "extract", "--base", base, "--tuned", tuned, "-o", folder("adapter"), "--rank", "2", "-q")
    let job = try job()
    let container = try #require(job.spec.template.spec.containers.first)
    let words = container.args.map { $0.replacing(/^\/models/, with: folder.path) }
    for index in 0..<job.spec.completions {
      let pod = try Command(
        words: words, environment: ["JOB_COMPLETION_INDEX": "\(index)"])
      #expect(pod.status == 0, "\(pod.errors)")
    }
    #expect(try Command("gather", folder("parts"), "-o", folder("merged"), "-q").status == 0)
    _ = try Command("merge", folder("base"), folder("adapter"), "-o", folder("alone"), "-q")
    for name in ["config.json", "model.safetensors"] {
      #expect(
        FileManager.default.contentsEqual(
          atPath: folder("merged/\(name)"), andPath: folder("alone/\(name)")))
    }
  }
}
