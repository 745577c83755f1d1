/**
 * The library: find, read and explain the vDSO of processes and files.
 *
 * A word names a target ({@link resolveTarget}); a verb turns a target into plain data ({@link report}, {@link maps},
 * {@link symbols} …); a renderer turns that into text. Close a target when done.
 *
 * ```ts
 * const target = await resolveTarget("i386");
 * const decoder = await decoderFor(target.image.abi);
 * console.log(renderExplain(explain(target, decoder)));
 * await target.close();
 * ```
 *
 * @module
 */
export {
  Agent,
  AgentError,
  type AgentExit,
  type AgentFailure,
  type AgentOptions,
  agentFolders,
  type FolderTried,
  startAgent,
} from "./agent/live.js";
export type { AgentAbi } from "./agent/protocol.js";
export { FormatError } from "./bytes/error.js";
export { Reader, type ReaderOptions } from "./bytes/reader.js";
export { Writer } from "./bytes/writer.js";
export { buildElf, type ElfLayout, type ElfPlan, type SectionPlan, type SegmentPlan } from "./elf/builder.js";
export type { DynamicEntry } from "./elf/dynamic.js";
export { ElfFile, type ElfOptions } from "./elf/file.js";
export { gnuHash, type HashTable, sysvHash } from "./elf/hash.js";
export { type ElfHeader, isElf } from "./elf/header.js";
export type { Note } from "./elf/note.js";
export type { Section } from "./elf/section.js";
export type { Segment } from "./elf/segment.js";
export type { ElfSymbol, SymbolVersion } from "./elf/symbol.js";
export type { VersionDefinition, VersionNeed } from "./elf/version.js";
export { type ClockChange, type ClockPlan, shownTime } from "./forge/clock.js";
export { ForgeError } from "./forge/error.js";
export type { ForgePlan, ForgeTools } from "./forge/forge.js";
export type { Decoder, Flow, Instruction, MemoryOperand, Operand } from "./isa/instruction.js";
export type { Compression } from "./kernel/compression.js";
export { type FoundImage, type FoundKernel, type KernelFile, type Layer, searchKernel } from "./kernel/find.js";
export { decompress } from "./kernel/load.js";
export { type AuxvEntry, type AuxvKind, auxvTag, auxvValue, auxvWordSize, parseAuxv } from "./linux/auxv.js";
export { hwcapNames } from "./linux/hwcap.js";
export type { Cpu as LoaderCpu } from "./linux/ldso/cpu.js";
export type { LoaderFiles } from "./linux/ldso/files.js";
export { liveCpu, liveFiles } from "./linux/ldso/live.js";
export { ObjectStore } from "./linux/ldso/store.js";
export type { FoundBy, LoadProblem, ResolvedObject, VirtualObject } from "./linux/ldso/types.js";
export type { LinkMapObject, LinkMapProcess } from "./linux/link-map.js";
export { LiveProcess, type ProcessState } from "./linux/live.js";
export { explainMapping, type Mapping, mappingAt, parseMaps, parseMapsLine } from "./linux/maps.js";
export { ProcessError, type ProcessView } from "./linux/process.js";
export { type GatherOptions, gather as gatherDoctorFacts } from "./measure/doctor/live.js";
export {
  type CallFigures,
  type Measured,
  type MeasureOptions,
  measureCalls,
  type Via,
} from "./measure/live.js";
export { renderAuxv } from "./render/auxv.js";
export { renderBench } from "./render/bench.js";
export { renderDiff } from "./render/diff.js";
export { renderDisasm } from "./render/disasm.js";
export { renderDoctor } from "./render/doctor.js";
export { renderExplain } from "./render/explain.js";
export { type GnuDisassemblyOptions, gnuDisassembly } from "./render/gnu/disassembly.js";
export { gnuDynamicSymbols } from "./render/gnu/dynamic-symbols.js";
export { gnuFile } from "./render/gnu/file.js";
export { renderReportHtml } from "./render/html/page.js";
export { renderImages } from "./render/images.js";
export { type LddTextOptions, lddProblems, lddText, lddTree, loadedText } from "./render/ldd.js";
export { renderMaps } from "./render/maps.js";
export { renderInForce, renderMatrix, renderPrediction, renderTimeline } from "./render/predict.js";
export { type Report, type ReportHost, renderReport } from "./render/report.js";
export { plainStyle, type Style, terminalStyle } from "./render/style.js";
export { renderSymbols } from "./render/symbols.js";
export { renderVerify } from "./render/verify.js";
export { answeredTime } from "./run/answered-time.js";
export { RunError } from "./run/error.js";
export { type ForgeWish, forgedGate } from "./run/forged-gate.js";
export type { Gate as ProgramGate } from "./run/gate.js";
export type { Answer, Interception, PendingCall } from "./run/intercept.js";
export { type Running, type RunRequest, startProgram } from "./run/live.js";
export {
  type MadeImage,
  type MadePlace,
  type ReplacementImage,
  replacementImage,
  type SharedTable,
} from "./run/place.js";
export { changedClocks, clockChange, type TimeSpec, type TimeWish } from "./run/time-change.js";
export { type Host, host } from "./targets/host.js";
export { nothingFound, type ReadOptions, readKernelFile } from "./targets/kernel-file.js";
export { hostAbi, resolveTarget, resolveTargets } from "./targets/resolve.js";
export {
  type ImageTarget,
  imageTarget,
  type Missing,
  ProcessTarget,
  type Target,
  TargetError,
} from "./targets/target.js";
export { type Abi, abiOf, parseAbi } from "./vdso/abi.js";
export {
  type Alternative,
  type AlternativeTable,
  alternativesOf,
  type RecordSize,
  type Site,
} from "./vdso/boot/alternatives.js";
export { type Cpu, parseCpuinfo } from "./vdso/boot/cpu.js";
export { CPU_MODELS, type CpuModel, findCpu } from "./vdso/boot/cpu-models.js";
export { type BootDescription, type PredictedSite, type Prediction, predictImage } from "./vdso/boot/predict.js";
export { permittedVariants, type Variant, type VariantOptions } from "./vdso/boot/variants.js";
export { compareImageAbis, compareImages, type ImageComparison } from "./vdso/compare.js";
export type { DataPage, DataPageKind } from "./vdso/data-pages.js";
export type { DataAccess, FunctionFacts, KernelEntry, ProcessorRead } from "./vdso/facts.js";
export type { Gate, GateStep, Mechanism, StepPurpose } from "./vdso/gate.js";
export {
  type FunctionRole,
  isVdso,
  type KernelVersion,
  parseImage,
  type VdsoFunction,
  type VdsoImage,
} from "./vdso/image.js";
export { locateVdso, type VdsoLocation } from "./vdso/locate.js";
export type { Finding, FindingId, Mark, Severity } from "./vdso/tamper/finding.js";
export type { ReferenceImage } from "./vdso/tamper/reference.js";
export { type AuxvResult, auxv, type DecodedAuxv } from "./verbs/auxv.js";
export { type BenchHost, type BenchResult, benchResult } from "./verbs/bench.js";
export { decoderFor } from "./verbs/decoder.js";
export { type DiffOptions, type DiffResult, diff } from "./verbs/diff.js";
export { type DisasmBlock, type DisasmLine, type DisasmOptions, type DisasmResult, disasm } from "./verbs/disasm.js";
export { type DoctorFacts, type DoctorResult, doctor, type Finding as DoctorFinding } from "./verbs/doctor.js";
export { type DumpResult, dump } from "./verbs/dump.js";
export { type ExplainedGate, type ExplainResult, explain, type GateLine } from "./verbs/explain.js";
export { type ForgeResult, forge } from "./verbs/forge.js";
export { type Identity, identify } from "./verbs/identity.js";
export { type ImagesResult, images } from "./verbs/images.js";
export { type LddOptions, type LddResult, type LoadedResult, ldd, lddAll, lddProcess } from "./verbs/ldd.js";
export { type ExplainedMapping, type MapsResult, maps } from "./verbs/maps.js";
export { type MatrixResult, matrix, matrixCpus, type TimelineResult, timeline } from "./verbs/matrix.js";
export { type BootQuestion, type InForceResult, inForce, type PredictResult, predict } from "./verbs/predict.js";
export { type ReportContent, type ReportPart, type ReportProcess, report } from "./verbs/report.js";
export { type SymbolRow, type SymbolsResult, symbolRows, symbols } from "./verbs/symbols.js";
export { Verifier, type VerifierOptions, type VerifyPass } from "./verbs/verify/live.js";
export type { ProcessVerdict, Verdict, VerifySummary } from "./verbs/verify/result.js";
