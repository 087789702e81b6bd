// The npm package @vladmandic/human on frames: for each scene that standard input names, CPU milliseconds a frame.
//
// node human_frames.cjs FRAMES      in a folder in which `npm install` of the packages in compare.py was done
//
// WebAssembly with SIMD is what it runs on where TensorFlow's native library cannot be fetched. Of its networks only those that
// an expression takes are on: face detection and emotion.
const fs = require('fs');
const http = require('http');
const path = require('path');
const readline = require('readline');
const { createRequire } = require('module');

const load = createRequire(path.join(process.cwd(), 'package.json'));
const [height, width] = [480, 640];
const bytes = height * width * 3;
const folder = process.argv[2];
const packages = path.join(process.cwd(), 'node_modules');
const wasmFiles = path.join(packages, '@tensorflow', 'tfjs-backend-wasm', 'dist', path.sep);
const scenes = {};

function serveModels() {
  const models = path.join(packages, '@vladmandic', 'human', 'models');
  const server = http.createServer((request, response) => {
    response.end(fs.readFileSync(path.join(models, path.basename(request.url))));
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}

function frames(scene) {
  if (!scenes[scene]) {
    const content = fs.readFileSync(path.join(folder, `${scene}.bgr`));
    scenes[scene] = [];
    for (let start = 0; start < content.length; start += bytes) scenes[scene].push(content.subarray(start, start + bytes));
  }
  return scenes[scene];
}

async function main() {
  const wasm = load('@tensorflow/tfjs-backend-wasm');
  wasm.setWasmPaths(wasmFiles);
  const { Human } = require(path.join(packages, '@vladmandic', 'human', 'dist', 'human.node-wasm.js'));
  const server = await serveModels();
  const off = { enabled: false };
  const human = new Human({
    backend: 'wasm',
    wasmPath: wasmFiles,
    modelBasePath: `http://127.0.0.1:${server.address().port}/`,
    face: { enabled: true, detector: { maxDetected: 4 }, mesh: off, iris: off, description: off, emotion: { enabled: true } },
    body: off, hand: off, gesture: off, object: off, segmentation: off, filter: off,
  });
  await human.init();
  await human.load();
  server.close();
  console.log('ready');
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const start = process.cpuUsage();
    let faces = 0;
    const pictures = frames(line.trim());
    for (const picture of pictures) {
      const tensor = human.tf.tensor3d(new Uint8Array(picture), [height, width, 3], 'int32');
      const result = await human.detect(tensor);
      faces += result.face.length;
      human.tf.dispose(tensor);
    }
    const used = process.cpuUsage(start);
    const milliseconds = (used.user + used.system) / 1000 / pictures.length;
    console.log(JSON.stringify({ milliseconds, faces: faces / pictures.length }));
  }
}

main().catch((problem) => { console.error(String(problem && problem.stack || problem)); process.exit(1); });
