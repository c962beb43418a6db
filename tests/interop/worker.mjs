// A worker written with the official TypeScript SDK 0.11.5: `node worker.mjs URL GROUP [NOTES]`.
import { appendFileSync, existsSync } from "node:fs";
import { Resonate } from "@resonatehq/sdk";

const [url, group, notes] = process.argv.slice(2);
const resonate = new Resonate({ url, group, ttl: 2000 });

resonate.register("add", (ctx, a, b) => a + b);
resonate.register("echo", (ctx, value) => value);
resonate.register("fail", function* (ctx, message) {
  throw new Error(message);
});
resonate.register("flow", function* (ctx, target, n) {
  const doubled = yield* ctx.run((c) => n + n);
  yield* ctx.sleep(50);
  const added = yield* ctx.rpc("add", doubled, 1, ctx.options({ target }));
  let caught = "nothing";
  try {
    yield* ctx.rpc("fail", "as asked", ctx.options({ target }));
  } catch (error) {
    caught = error.message;
  }
  return [added, caught];
});
resonate.register("waits", function* (ctx) {
  const promise = yield* ctx.promise();
  return yield* promise;
});
resonate.register("leaves", function* (ctx, target, id) {
  yield* ctx.detached("mark", id, ctx.options({ target }));
  return "left";
});
resonate.register("survives", function* (ctx) {
  const first = yield* ctx.run((c) => {
    appendFileSync(notes, "first\n");
    return "first";
  });
  yield* ctx.run(async (c) => {
    while (!existsSync(`${notes}.go`)) await new Promise((done) => setTimeout(done, 20));
  });
  const second = yield* ctx.run((c) => {
    appendFileSync(notes, "second\n");
    return "second";
  });
  return [first, second];
});
console.log("ready");
