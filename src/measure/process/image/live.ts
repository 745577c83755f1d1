import type { Agent } from "../../../agent/live.js";
import type { AgentMemory } from "../../../agent/memory.js";
import { WORD_SIZE } from "../../../agent/protocol.js";
import { Reader } from "../../../bytes/reader.js";
import { parseAuxv } from "../../../linux/auxv.js";
import { LiveProcess } from "../../../linux/live.js";
import { parseMaps } from "../../../linux/maps.js";
import { parseImage, type VdsoImage } from "../../../vdso/image.js";
import { locateVdso } from "../../../vdso/locate.js";

/** The vDSO that an agent has mapped. */
export interface AgentImage {
  readonly image: VdsoImage;
  readonly base: bigint;
  readonly bytes: Uint8Array;
}

/**
 * Reads the vDSO of an agent; `undefined` where it has none. Throws `FormatError` where it is damaged, `ProcessError` where
 * the agent may not be read.
 */
export function readImage({ pid, abi }: Agent): AgentImage | undefined {
  const live = new LiveProcess(pid);
  try {
    const auxv = parseAuxv(live.auxvBytes(), { wordSize: WORD_SIZE[abi], littleEndian: true });
    const location = locateVdso(auxv, parseMaps(new TextDecoder().decode(live.mapsBytes())));
    if (!location) return undefined;
    const bytes = live.read(location.base, location.size);
    return { image: parseImage(bytes, { mapped: true }), base: location.base, bytes };
  } finally {
    live.close();
  }
}

/** The address of a function in an agent, by its name with or without `__vdso_`; `undefined` where there is none. */
export function addressIn({ image, base }: AgentImage, name: string): bigint | undefined {
  const names = [name, `__vdso_${name}`];
  const found = image.functions.find((one) => [one.name, ...one.aliases].some((each) => names.includes(each)));
  return found && base + (found.address - image.linkBase);
}

/** Memory for random bytes: the state that the vDSO's getrandom keeps between calls. */
export interface RandomState {
  readonly address: bigint;
  readonly size: number;
}

/** The length of a state that asks for the parameters of one instead. */
const ASK = -1;

/** Largest state that is made. */
const MAX_STATE = 4096;

/**
 * A state for the vDSO's getrandom, of the size and in the kind of memory that it says itself (include/uapi/linux/random.h,
 * struct vgetrandom_opaque_params); `undefined` where it does not serve. `buffer` has room for what it says.
 */
export async function randomState(
  agent: Agent,
  memory: AgentMemory,
  { getrandom, buffer }: { readonly getrandom: bigint; readonly buffer: bigint },
): Promise<RandomState | undefined> {
  const result = await agent.callAddress(getrandom, 0, 0, 0, buffer, ASK);
  if (BigInt.asIntN(32, result) !== 0n) return undefined;
  const parameters = new Reader(memory.read(buffer, 12), { what: "parameters of getrandom" });
  const [size, protection, flags] = [parameters.u32At(0), parameters.u32At(4), parameters.u32At(8)];
  if (size === 0 || size > MAX_STATE) return undefined;
  return { address: await memory.map(size, protection, flags), size };
}
