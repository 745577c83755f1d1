/** One line of a metric. */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** A metric with its lines. */
export interface MetricFamily {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly samples: readonly Sample[];
}

const NAME = "[a-zA-Z_:][a-zA-Z0-9_:]*";
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)/y;
const VALUE = /^(?:[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?|[+-]?Inf|NaN)$/i;

/**
 * Reads Prometheus' text format (version 0.0.4) and throws at whatever node_exporter's textfile collector would refuse or
 * warn of: a metric without help or type, or with two, lines of one metric apart from each other, the same labels twice,
 * a timestamp, a last line without its end.
 */
export function parseExposition(text: string): MetricFamily[] {
  if (!text.endsWith("\n")) throw new Error("the last line has no end");
  const families: { name: string; type?: string; help: string; samples: Sample[] }[] = [];
  const seen = new Set<string>();
  for (const line of text.slice(0, -1).split("\n")) {
    const help = new RegExp(`^# HELP (${NAME}) ((?:[^\\\\]|\\\\[\\\\n])*)$`).exec(line);
    const type = new RegExp(`^# TYPE (${NAME}) (counter|gauge|histogram|summary|untyped)$`).exec(line);
    const sample = new RegExp(`^(${NAME})(?:\\{(.*)\\})? (\\S+)$`).exec(line);
    const last = families.at(-1);
    if (help) {
      const [, name = "", words = ""] = help;
      if (families.some((one) => one.name === name)) throw new Error(`${name} stands in two places`);
      families.push({ name, help: words, samples: [] });
    } else if (type) {
      if (!last || last.name !== type[1] || last.type !== undefined) throw new Error(`a type out of place: ${line}`);
      last.type = type[2] as string;
    } else if (sample) {
      const [, name = "", labels = "", value = ""] = sample;
      if (!last || last.name !== name || last.type === undefined) throw new Error(`a sample out of place: ${line}`);
      if (!VALUE.test(value)) throw new Error(`no value: ${line}`);
      const key = `${name}{${labels}}`;
      if (seen.has(key)) throw new Error(`twice: ${key}`);
      seen.add(key);
      last.samples.push({ name, labels: parseLabels(labels), value: Number(value) });
    } else {
      throw new Error(`no line of the format: ${line}`);
    }
  }
  return families.map((one) => {
    if (one.type === undefined || one.samples.length === 0) throw new Error(`${one.name} has no type or no sample`);
    return { ...one, type: one.type };
  });
}

function parseLabels(text: string): Record<string, string> {
  const labels: Record<string, string> = {};
  LABEL.lastIndex = 0;
  while (LABEL.lastIndex < text.length) {
    const [, name, value] = LABEL.exec(text) ?? [];
    if (name === undefined || value === undefined) throw new Error(`no labels: ${text}`);
    if (name in labels || name.startsWith("__")) throw new Error(`a label twice, or one that is reserved: ${name}`);
    labels[name] = value.replaceAll(/\\(.)/g, (_, character: string) => (character === "n" ? "\n" : character));
  }
  return labels;
}
