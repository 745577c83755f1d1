/**
 * What the agent and its commander agree on.
 *
 * The agent first arranges to die with its parent and writes one word, the result of that. Then it reads requests of
 * seven words: the number of a system call and six arguments, or {@link CALL_ADDRESS}, an address and five arguments
 * of a function there. It answers each with one word. At the end of its requests it exits.
 */

/** ABIs in which there is an agent. */
export type AgentAbi = "x86_64" | "i386";

/** Size in bytes of a word of an ABI. */
export const WORD_SIZE: Readonly<Record<AgentAbi, 4 | 8>> = { x86_64: 8, i386: 4 };

/** Words of a request. */
export const REQUEST_WORDS = 7;

/** First word of a request to call an address; no system call has this number. */
export const CALL_ADDRESS = -1;

/** File descriptor from which the agent reads requests. */
export const REQUEST_FD = 3;

/** File descriptor to which the agent writes replies. */
export const REPLY_FD = 4;
