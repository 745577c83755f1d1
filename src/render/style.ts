/** How text is emphasised: with terminal codes, or not at all. */
export interface Style {
  bold(text: string): string;
  dim(text: string): string;
  /** Names of symbols, mappings and files. */
  name(text: string): string;
  /** Numbers and addresses. */
  number(text: string): string;
  /** What the reader came for. */
  accent(text: string): string;
  warning(text: string): string;
}

const same = (text: string): string => text;

/** Text as it is, for files, pipes and NO_COLOR. */
export const plainStyle: Style = { bold: same, dim: same, name: same, number: same, accent: same, warning: same };

const sgr =
  (on: number, off: number) =>
  (text: string): string =>
    text === "" ? "" : `\u001b[${on}m${text}\u001b[${off}m`;

/** Codes of ECMA-48 that every terminal knows. */
export const terminalStyle: Style = {
  bold: sgr(1, 22),
  dim: sgr(2, 22),
  name: sgr(36, 39),
  number: sgr(33, 39),
  accent: sgr(32, 39),
  warning: sgr(31, 39),
};
