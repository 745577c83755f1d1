/** A test that is a plain function, so that it also runs where there is no test runner: in a guest. */
export interface Check<Context = void> {
  /** A sentence, as tests have it. */
  readonly name: string;
  /** Throws where what the name says is not so. */
  run(context: Context): Promise<void>;
}
