// Answers of the server, and what went wrong with them.

// A proxy between may answer with a page of its own.
export async function problemOf(reply) {
  const problem = await reply.json().catch(() => ({}));
  return problem.detail ?? `The server answers ${reply.status}.`;
}
