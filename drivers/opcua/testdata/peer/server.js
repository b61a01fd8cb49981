// An OPC UA server by node-opcua, with the nodes that the driver's tests need.
// It says on its output what reached it, one JSON document a line, and takes
// orders on its input, one a line: lose (act on the next call and do not answer
// it), restart, and tell NODE VALUE.
"use strict"
const path = require("path")
const readline = require("readline")
const { AttributeIds, DataType, MessageSecurityMode, OPCUACertificateManager, OPCUAServer, SecurityPolicy, StatusCodes, Variant } = require("node-opcua")

const [port, folder, certificate] = process.argv.slice(2)
const say = what => process.stdout.write(JSON.stringify(what) + "\n")
const counts = { dose: 0, stop: 0 }
const values = { T: 320, Made: 1, Heating: true, State: 6, Lot: "A" }
let lose = false
let variables = {}

async function start() {
  const options = {
    port: Number(port), hostname: "127.0.0.1", allowAnonymous: true,
    serverInfo: { applicationUri: "urn:test:node-opcua" },
    buildInfo: { productName: "peer" },
    securityModes: [MessageSecurityMode.None], securityPolicies: [SecurityPolicy.None],
    serverCertificateManager: new OPCUACertificateManager({ automaticallyAcceptUnknownCertificate: true, rootFolder: path.join(folder, "pki") }),
    userCertificateManager: new OPCUACertificateManager({ automaticallyAcceptUnknownCertificate: true, rootFolder: path.join(folder, "users") }),
  }
  if (certificate) {
    options.securityModes.push(MessageSecurityMode.SignAndEncrypt)
    options.securityPolicies.push(SecurityPolicy.Basic256Sha256)
    options.certificateFile = path.join(folder, certificate + ".pem")
    options.privateKeyFile = path.join(folder, certificate + ".key")
  }
  const server = new OPCUAServer(options)
  await server.initialize()
  build(server.engine.addressSpace)
  await server.start()
  say({ ready: true })
  return server
}

function build(space) {
  const ns = space.registerNamespace("urn:test:device")
  const id = name => `ns=${ns.index};s=${name}`
  const device = ns.addObject({ organizedBy: space.rootFolder.objects, browseName: "Device", nodeId: id("Device") })
  const types = { T: DataType.Double, Made: DataType.Int32, Heating: DataType.Boolean, State: DataType.Int32, Lot: DataType.String }
  ns.addVariable({ componentOf: device, browseName: "Serial", nodeId: id("Serial"), dataType: DataType.String, value: { dataType: DataType.String, value: "SN 1" } })
  for (const [name, dataType] of Object.entries(types)) {
    variables[name] = ns.addVariable({ componentOf: device, browseName: name, nodeId: id(name), dataType, value: { dataType, value: values[name] } })
    variables[name].peerType = dataType
  }
  const pump = ns.addObject({ componentOf: device, browseName: "Pump", nodeId: id("Pump") })
  const method = (name, what, inputArguments) => {
    const m = ns.addMethod(pump, { browseName: name, nodeId: id("Pump." + name), inputArguments, outputArguments: [] })
    m.bindMethod((inputs, context, done) => {
      counts[what]++
      say({ called: what, inputs: inputs.map(v => v.value), ...counts })
      if (lose) { lose = false; return }
      done(null, { statusCode: StatusCodes.Good, outputArguments: [] })
    })
  }
  method("Dose", "dose", [{ name: "count", dataType: DataType.Byte }, { name: "volume", dataType: DataType.Double }])
  method("Stop", "stop", [])
}

async function main() {
  let server = await start()
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [order, node, value] = line.split(" ")
    if (order === "lose") lose = true
    if (order === "tell") variables[node].setValueFromSource(new Variant({ dataType: variables[node].peerType, value: JSON.parse(value) }))
    if (order === "restart") {
      await server.shutdown(0)
      server = await start()
    }
    say({ did: order })
  }
  process.exit(0)
}

main().catch(e => { say({ error: String(e && e.stack || e) }); process.exit(1) })
