// One script in a PHP of WebAssembly: node run.mjs MODULES VERSION, the job as JSON on standard input.
//
// The job: {files: {path: base64}, folders: [path], script, arguments, read: folder}. The answer, as JSON:
// {version, text, errors, code, read: {name: text}}. Such a PHP has no sockets, and /proc is not there.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [modules, version] = process.argv.slice(2);
const require = createRequire(pathToFileURL(modules + "/any.js"));
const load = (name) => import(pathToFileURL(require.resolve(name)));
const job = JSON.parse(readFileSync(0, "utf8"));

const { PHP, loadPHPRuntime } = await load("@php-wasm/universal");
const build = await load(`@php-wasm/node-${version}`);
const php = new PHP(await loadPHPRuntime(await build.getPHPLoaderModule(), { processId: process.pid }));
for (const folder of job.folders) {
  php.mkdir(folder);
}
for (const [path, content] of Object.entries(job.files)) {
  php.writeFile(path, Buffer.from(content, "base64"));
}
const list = JSON.stringify([job.script, ...job.arguments]).replace(/'/g, "\\'");
const code = `<?php $argv = json_decode('${list}'); $argc = count($argv); require $argv[0];`;
let answer;
try {
  answer = await php.run({ code });
} catch (error) {
  answer = error.response ?? { text: "", errors: String(error), exitCode: 1 };
}
const read = {};
for (const name of job.read ? php.listFiles(job.read) : []) {
  if (!name.startsWith(".")) {
    read[name] = php.readFileAsText(`${job.read}/${name}`);
  }
}
const said = (await php.run({ code: "<?php echo PHP_VERSION;" })).text;
const told = { version: said, text: answer.text, errors: answer.errors, code: answer.exitCode, read };
process.stdout.write(JSON.stringify(told) + "\n", () => process.exit(0));
