/** An image cannot be made as it was asked for; the message is for the user. */
export class ForgeError extends RangeError {
  override readonly name = "ForgeError";
}
